import torch

from latentops.architectures.stack import generator
from latentops.training.members import Member
from latentops.training.trained import Trained
from latentops.variants.convolutional import checkerboard_energy
from tests.toy import draw, recipe

GRID = torch.arange(8.0)


def test_energy_at_the_strides_frequency_is_all_of_a_checkerboard_s_and_none_of_a_slow_wave_s() -> None:
    board = (-1) ** (GRID + GRID.unsqueeze(-1))
    stripes = (-1) ** GRID.expand(8, 8)
    wave = torch.cos(2 * torch.pi * GRID / 8).expand(8, 8)
    images = torch.stack([board, stripes, wave, board + wave * 2**0.5])[:, None, None] + 3
    expected = torch.tensor([1.0, 1.0, 0.0, 0.5])
    torch.testing.assert_close(checkerboard_energy(images), expected)
    torch.testing.assert_close(
        checkerboard_energy(images[..., :7, :7])[:3], checkerboard_energy(images[..., :6, :6])[:3]
    )


def test_one_pixel_along_an_axis_has_no_stride_and_constant_images_no_energy() -> None:
    stripes = (-1) ** GRID.expand(1, 8)
    for images in (stripes, stripes.T):
        torch.testing.assert_close(checkerboard_energy(images[None, None, None] + 3), torch.ones(1))
    assert checkerboard_energy(torch.full((1, 4, 1, 8, 8), 0.3)).isnan().all()
    assert checkerboard_energy(torch.ones(1, 4, 1, 1, 1)).isnan().all()


def test_noise_has_its_share_of_the_frequencies() -> None:
    noise = torch.randn(1, 4000, 1, 8, 8, generator=generator("noise"))
    assert abs(checkerboard_energy(noise).item() - 15 / 63) < 0.01


def test_images_are_told_their_checkerboard_and_other_data_is_not() -> None:
    for kind, told in (("image", {"checkerboard"}), ("tabular", set()), ("sequence", set())):
        made = recipe("convolutional", kind, "convolutional")
        members = [Member(0, "all"), Member(1, "all")]
        found = Trained(made.build(members), members, made).diagnose(draw(kind, 9))
        assert set(found) == told
        assert all(len(each) == 2 for each in found.values())
