from benchmarks.profile import shares


def test_what_no_kernel_accounts_for_is_bookkeeping() -> None:
    kernels = [
        ("aten::bmm", 2.0),
        ("aten::convolution_backward", 1.0),
        ("aten::mul", 1.5),
        ("aten::_fused_adam_", 0.5),
        ("_PerceptronBackward", 9.0),
    ]
    found = shares("a case", 10.0, kernels)
    assert (found.products, found.other_kernels, found.optimiser) == (0.3, 0.15, 0.05)
    assert found.bookkeeping == 0.5
    assert found.microseconds == 1e7


def test_shares_stay_within_a_step_that_the_profiler_slowed() -> None:
    found = shares("a case", 1.0, [("aten::bmm", 1.2)])
    assert (found.products, found.bookkeeping) == (1.0, 0.0)
