import numpy as np
import torch

from ppcore.seeds import PerSampleNoise, derive, numpy_rng, sample_seed


def test_sample_seeds_differ_between_samples_and_runs():
    seeds = {sample_seed(run, index) for run in range(20) for index in range(500)}
    assert len(seeds) == 20 * 500
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_neighbouring_runs_share_no_shifted_stream():
    first = [sample_seed(7, index) for index in range(100)]
    second = [sample_seed(8, index) for index in range(100)]
    assert not set(first) & set(second)


def test_derive_separates_labels_that_join_alike():
    assert derive(0, "ab", "c") != derive(0, "a", "bc")
    assert derive(0, 1, 23) != derive(0, 12, 3)


def test_numpy_rng_repeats():
    assert np.array_equal(numpy_rng(3, "x").random(5), numpy_rng(3, "x").random(5))


def test_noise_of_a_sample_ignores_its_batch_mates_and_continues():
    together = PerSampleNoise(torch.tensor([5, 6, 7]))
    alone = PerSampleNoise([6])
    for _ in range(3):
        assert torch.equal(together.randn((2, 4))[1], alone.randn((2, 4))[0])


def test_noise_draws_differ():
    noise = PerSampleNoise([1])
    assert not torch.equal(noise.randn((8,)), noise.randn((8,)))
