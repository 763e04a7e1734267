# Stem in a browser. CPU by default:
#   docker build -t stem .
# With CUDA, for `docker run --gpus all`:
#   docker build -t stem:cuda --build-arg TORCH=cuda .
# Where pip's index has no CPU build of torch, the build says so and takes the CUDA build (5.5 GB). An
# index of CPU wheels makes the image small:
#   docker build -t stem --build-arg TORCH_INDEX_URL=<index of CPU wheels of torch> .
# Run, with models, uploads and results kept in a volume:
#   docker run --rm -p 127.0.0.1:8501:8501 -v stem-data:/data stem

# Debian 13 (trixie) has SQLite 3.46, in which the list of runs is kept.
ARG PYTHON_IMAGE=python:3.13.9-slim-trixie
FROM ${PYTHON_IMAGE}

ARG TORCH=cpu
ARG TORCH_INDEX_URL=""
ARG VERSION=0.1.0

LABEL org.opencontainers.image.title="Stem in a browser" \
      org.opencontainers.image.description="Predict spatial gene expression from H&E images. For research use only." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.authors="The Stem in a browser contributors"

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    STEM_HOME=/data \
    HF_HOME=/data/huggingface \
    HF_HUB_DISABLE_TELEMETRY=1

# No package of the distribution is needed: OpenSlide comes as a wheel (openslide-bin).
RUN useradd --create-home --uid 10001 stem \
 && install -d -o stem -g stem /app /data
WORKDIR /app

# torch in a step of its own: a change of the other requirements does not fetch it again.
COPY requirements.txt ./
COPY tools/install_torch.py ./tools/
RUN python tools/install_torch.py "$TORCH" \
 && python -c "import sys, torch; print('torch', torch.__version__); \
sys.exit('TORCH=cuda needs a CUDA build of torch; name its index with TORCH_INDEX_URL.' if '$TORCH' == 'cuda' and not torch.version.cuda else 0)"
RUN pip install -r requirements.txt

COPY pyproject.toml setup.py README.md LICENSE ./
COPY stem_core ./stem_core
COPY zoo ./zoo
COPY app ./app
COPY .streamlit ./.streamlit
RUN pip install --no-deps -e . \
 && STEM_HOME=/tmp/check HF_HOME=/tmp/check stem doctor && rm -rf /tmp/check

USER stem
VOLUME /data
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
CMD ["stem", "app", "--host", "0.0.0.0", "--port", "8501"]
