import torch

from stem_core.diffusion.denoiser import Denoiser
from stem_core.model.config import DenoiserConfig

SMALL = DenoiserConfig(genes=12, condition_width=5, depth=2, width=16, heads=2)


def randomised(size: DenoiserConfig) -> Denoiser:
    torch.manual_seed(0)
    denoiser = Denoiser(size).double().eval()
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return denoiser


def test_published_size_has_the_published_parameters() -> None:
    with torch.device("meta"):
        denoiser = Denoiser(DenoiserConfig())
    assert 33.0e6 < sum(p.numel() for p in denoiser.parameters()) < 36.2e6
    names = set(denoiser.state_dict())
    assert {
        "gene_joint_embed.gene_name_ebd",
        "time_embed.mlp.2.bias",
        "label_embed.0.weight",
    } <= names
    assert {
        "blocks.11.attn.qkv.bias",
        "blocks.0.mlp.fc2.weight",
        "final_layer.adaLN_modulation.1.weight",
    } <= names


def test_samples_of_a_spot_do_not_see_each_other() -> None:
    denoiser = randomised(SMALL)
    x, t, c = torch.randn(3, 4, 12).double(), torch.tensor([5, 5, 900]), torch.randn(3, 5).double()
    together = denoiser(x, t, c)
    alone = denoiser(x[1:2, 2:3], t[1:2], c[1:2])
    for a, b in zip(together, alone, strict=True):
        assert a.shape == (3, 4, 12)
        torch.testing.assert_close(a[1:2, 2:3], b)


def test_condition_time_and_other_genes_matter() -> None:
    denoiser = randomised(SMALL)
    x, t, c = torch.randn(1, 1, 12).double(), torch.tensor([300]), torch.randn(1, 5).double()
    base = denoiser(x, t, c)[0]
    assert (denoiser(x, t, c + 1)[0] - base).abs().max() > 1e-3
    assert (denoiser(x, t + 300, c)[0] - base).abs().max() > 1e-3
    changed = x.clone()
    changed[0, 0, 0] += 1
    assert (denoiser(changed, t, c)[0] - base)[0, 0, 1:].abs().max() > 1e-4


def test_fresh_denoiser_starts_at_zero() -> None:
    denoiser = Denoiser(SMALL)
    noise, variance = denoiser(torch.randn(2, 3, 12), torch.tensor([1, 2]), torch.randn(2, 5))
    assert not noise.any() and not variance.any()
