from pathlib import Path

import pytest
import torch

from stem_core.diffusion.denoiser import Denoiser
from stem_core.diffusion.parameterisation import estimate_noise
from stem_core.diffusion.precision import (
    choose_precision,
    in_precision,
    multiplies_in_bf16,
    time_evaluation,
)
from stem_core.diffusion.schedule import Schedule
from stem_core.errors import SettingsError
from stem_core.model.config import DenoiserConfig

SMALL = DenoiserConfig(genes=12, condition_width=5, depth=2, width=16, heads=2)
CPU = torch.device("cpu")


def test_the_processor_and_the_size_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    large = DenoiserConfig()
    for can, size, chosen in ((True, large, "bf16"), (True, SMALL, "fp32"), (False, large, "fp32")):
        monkeypatch.setattr(
            "stem_core.diffusion.precision.multiplies_in_bf16", lambda device, can=can: can
        )
        assert choose_precision(size, CPU) == chosen
        assert choose_precision(size, CPU, "fp32") == "fp32"
        assert choose_precision(size, CPU, "bf16") == "bf16"


def test_the_cpu_tells_what_it_can_do() -> None:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    assert multiplies_in_bf16(CPU) == ("amx_bf16" in flags)


def test_an_evaluation_is_timed() -> None:
    assert 0 < time_evaluation(SMALL, CPU, "fp32") < 1


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(SettingsError, match="choose auto, fp32 or bf16"):
        choose_precision(SMALL, CPU, "fp8")


def test_half_the_digits_give_nearly_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    denoiser = Denoiser(SMALL).eval()
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x, label = torch.randn(6, 4, 12), torch.randn(6, 5)
    times = torch.full((6,), 400).numpy()
    with torch.inference_mode():
        full, half = (
            estimate_noise(in_precision(denoiser, p), Schedule(), x, times, label, None)[0]
            for p in ("fp32", "bf16")
        )
    assert half.dtype == torch.float32
    off = float((half - full).pow(2).mean().sqrt() / full.std())
    with capsys.disabled():
        print(f"\nbf16 against fp32, one evaluation: {off:.2%} of the output's deviation")
    assert 0 < off < 0.05
    assert next(denoiser.parameters()).dtype == torch.float32  # the original is left alone
