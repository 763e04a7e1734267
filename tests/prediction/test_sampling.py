import numpy as np
import pytest
import torch

from stem_core.diffusion.denoiser import Denoiser
from stem_core.diffusion.schedule import Schedule
from stem_core.model.config import DenoiserConfig
from stem_core.prediction import sampling
from stem_core.prediction.sampling import draw_targets, sequences_at_once
from stem_core.prediction.settings import SamplingSettings

SIZE = DenoiserConfig(genes=12, condition_width=5, depth=1, width=16, heads=2, predicts="velocity")


class Cramped(Denoiser):
    """A real denoiser on a machine that holds few samples."""

    def __init__(self, size: DenoiserConfig, most: int, error: Exception) -> None:
        super().__init__(size)
        self.most, self.error, self.refused = most, error, 0

    def forward(self, x, t, condition, gene_mean=None):  # type: ignore[no-untyped-def]
        if x.shape[0] * x.shape[1] > self.most:
            self.refused += 1
            raise self.error
        return super().forward(x, t, condition, gene_mean)


def draw(denoiser: Denoiser, how: SamplingSettings) -> np.ndarray:
    label = torch.linspace(-1, 1, 20 * 5).view(20, 5)
    ids = [f"s{i}" for i in range(20)]
    return draw_targets(denoiser, Schedule(), label, None, ids, how).numpy()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
@pytest.mark.parametrize("sampler", ["angle", "ancestral"])
def test_out_of_memory_halves_the_group_and_goes_on(error: Exception, sampler: str) -> None:
    torch.manual_seed(0)
    cramped = Cramped(SIZE, 12, error).eval()
    roomy = Denoiser(SIZE).eval()
    roomy.load_state_dict(cramped.state_dict())
    how = SamplingSettings(sampler, 3, 4)
    np.testing.assert_allclose(draw(cramped, how), draw(roomy, how), atol=1e-5)
    assert cramped.refused >= 2  # 20, 10, 5 and then 3 spots at once


def test_other_errors_are_not_swallowed() -> None:
    with pytest.raises(RuntimeError, match="size mismatch"):
        draw(Cramped(SIZE, 0, RuntimeError("size mismatch")), SamplingSettings("angle", 2, 2))
    with pytest.raises(MemoryError):  # not even one spot fits
        draw(Cramped(SIZE, 1, MemoryError()), SamplingSettings("angle", 2, 2))


def test_groups_fit_small_caches_and_free_gpu_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    small, published = sequences_at_once(SIZE, torch.device("cpu")), DenoiserConfig()
    assert sequences_at_once(published, torch.device("cpu")) < small
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (80e9, 80e9))
    many = sequences_at_once(published, torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8e9, 80e9))
    assert many > 8 * sequences_at_once(published, torch.device("cuda")) > 0


@pytest.mark.parametrize("sampler", ["angle", "dpmpp-2m", "dpmpp-2m-sde", "ddim"])
def test_symmetric_draws_come_in_opposite_pairs(sampler: str) -> None:
    torch.manual_seed(0)
    size = DenoiserConfig(
        genes=12, condition_width=5, depth=1, width=16, heads=2, predicts="velocity", symmetric=True
    )
    denoiser = Denoiser(size).eval()
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    out = draw(denoiser, SamplingSettings(sampler, 3, 4))
    np.testing.assert_array_equal(out[:, 0::2], -out[:, 1::2])
    assert np.abs(out[:, 0] - out[:, 2]).max() > 0.1


def test_batches_are_the_callers_to_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    denoiser = Denoiser(SIZE).eval()
    how = SamplingSettings("angle", 3, 4)
    whole = draw(denoiser, how)
    monkeypatch.setattr(sampling, "_CPU_AT_MOST", 4)
    monkeypatch.setattr(sampling, "_CPU_AT_LEAST", 4)
    np.testing.assert_allclose(draw(denoiser, how), whole, atol=1e-5)
