import pytest
import torch

from stem_core.diffusion.denoiser import Denoiser
from stem_core.diffusion.parameterisation import estimate_noise
from stem_core.diffusion.precision import Trial, choose_precision, in_precision, probe
from stem_core.diffusion.schedule import Schedule
from stem_core.errors import SettingsError
from stem_core.model.config import DenoiserConfig

SMALL = DenoiserConfig(genes=12, condition_width=5, depth=2, width=16, heads=2)
CPU = torch.device("cpu")


def test_the_faster_precision_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for fast, speeds in (
        ("bf16", {"fp32": 2.0, "bf16": 1.0}),
        ("fp32", {"fp32": 1.6, "bf16": 1.0}),  # hardly faster is not worth the lost digits
        ("fp32", {"fp32": 1.0, "bf16": float("inf")}),
    ):
        monkeypatch.setattr(
            "stem_core.diffusion.precision.probe",
            lambda size, device, speeds=speeds: {n: Trial(9.0, s) for n, s in speeds.items()},
        )
        assert choose_precision(SMALL, CPU) == fast
        assert choose_precision(SMALL, CPU, "fp32") == "fp32"


def test_probe_measures_this_machine() -> None:
    found = probe(SMALL, CPU)
    assert 0 < found["fp32"].elapsed_s < 1
    assert 0 < found["fp32"].processor_s < 4
    assert probe(SMALL, CPU) is found  # remembered


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
