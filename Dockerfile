# Stem in a browser. CPU by default:
#   docker build -t stem .
# With CUDA, name the wheel index of the torch build that fits the driver:
#   docker build -t stem:cuda --build-arg DEVICE=cuda --build-arg TORCH_INDEX_URL=<index of CUDA wheels> .
# Run, with models, uploads and results kept in a volume:
#   docker run --rm -p 127.0.0.1:8501:8501 -v stem-data:/data stem
ARG PYTHON_VERSION=3.12
FROM python:${PYTHON_VERSION}-slim

# cpu | cuda. The wheel index differs between the two; without one, pip's own index decides.
ARG DEVICE=cpu
ARG TORCH_INDEX_URL=""

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
RUN torch="$(sed -n 's/^\(torch==[^ #]*\).*/\1/p' requirements.txt)" \
 && if [ -n "$TORCH_INDEX_URL" ]; then pip install --index-url "$TORCH_INDEX_URL" "$torch"; \
    else pip install "$torch"; fi \
 && python -c "import sys, torch; cuda = torch.version.cuda; print('torch', torch.__version__); \
sys.exit('DEVICE=cuda asks for a CUDA build of torch: give TORCH_INDEX_URL' if '$DEVICE' == 'cuda' and not cuda else 0)"
RUN pip install -r requirements.txt

COPY pyproject.toml README.md LICENSE ./
COPY stem_core ./stem_core
COPY zoo ./zoo
COPY app ./app
COPY .streamlit ./.streamlit
RUN pip install --no-deps -e .

USER stem
VOLUME /data
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
CMD ["stem", "app", "--host", "0.0.0.0", "--port", "8501"]
