"""Wrong calls: each raises at once, with the right type, and says what was wanted and what came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dcorr import (
    DCor2Loss,
    DCov2Loss,
    PDCorLoss,
    dcor,
    dcor2,
    dcov,
    dcov2,
    dvar2,
    pdcor,
    pdcov2,
    sliced_dcov2,
)
from dcorr.pairwise import TABLE, pair_moments

X, Y = torch.zeros(6, 3), torch.zeros(6, 2)
F64, HALF = torch.float64, torch.float16
NAN = torch.tensor([0.0, float("nan"), 1.0, 2.0])
BACKENDS = ", ".join(repr(name) for name in ("auto", *TABLE))
METHODS = f"{BACKENDS}, 'sliced'"
Row = tuple[str, Callable[[], Any], type[Exception], str]

DISTANCE_COVARIANCE: list[Row] = [
    # -- what is no sample
    (
        "list",
        lambda: dcov2([[1.0], [2.0]], Y),
        TypeError,
        "x must be a torch.Tensor, got list",
    ),
    (
        "array",
        lambda: dcov2(X, Y.numpy()),
        TypeError,
        "y must be a torch.Tensor, got ndarray",
    ),
    (
        "none",
        lambda: dcor(X, None),
        TypeError,
        "y must be a torch.Tensor, got NoneType",
    ),
    (
        "integer dtype",
        lambda: dcov2(X.long(), Y.long()),
        TypeError,
        "x must have a floating-point dtype, got torch.int64",
    ),
    (
        "bool dtype",
        lambda: dcov(X, Y.bool()),
        TypeError,
        "y must have a floating-point dtype, got torch.bool",
    ),
    (
        "complex dtype",
        lambda: dcor2(X.cfloat(), Y),
        TypeError,
        "x must have a floating-point dtype, got torch.complex64",
    ),
    (
        "float8 dtype",
        lambda: dcov2(X.to(torch.float8_e5m2), Y),
        TypeError,
        "x must have a dtype of at least 16 bits, got torch.float8_e5m2",
    ),
    (
        "sparse",
        lambda: dcov2(X, Y.to_sparse()),
        TypeError,
        "y must be a dense (strided) tensor, got layout torch.sparse_coo",
    ),
    (
        "compressed sparse",
        lambda: dvar2(torch.eye(4).to_sparse_csr()),
        TypeError,
        "x must be a dense (strided) tensor, got layout torch.sparse_csr",
    ),
    # -- shapes
    (
        "scalar",
        lambda: dcov2(torch.tensor(1.0), Y),
        ValueError,
        "x must have shape (n,) or (*batch, n, p), got a scalar",
    ),
    (
        "one sample",
        lambda: dcov2(X[:1], Y[:1]),
        ValueError,
        "x must have at least 2 samples, got 1",
    ),
    (
        "no samples",
        lambda: dcor(X[:0], Y[:0]),
        ValueError,
        "x must have at least 2 samples, got 0",
    ),
    (
        "one sample as a vector",
        lambda: dvar2(torch.zeros(1)),
        ValueError,
        "x must have at least 2 samples, got 1",
    ),
    (
        "three samples, unbiased",
        lambda: dcov2(X[:3], Y[:3], unbiased=True),
        ValueError,
        "x must have at least 4 samples, got 3",
    ),
    (
        "three samples, bias-corrected",
        lambda: dcor2(X, Y[:3], unbiased=True),
        ValueError,
        "y must have at least 4 samples, got 3",
    ),
    (
        "three samples, partial",
        lambda: pdcov2(X[:3], Y[:3], Y[:3]),
        ValueError,
        "x must have at least 4 samples, got 3",
    ),
    (
        "no features",
        lambda: dcov2(X[:, :0], Y),
        ValueError,
        "x must have at least one feature, got shape (6, 0)",
    ),
    (
        "no features in a batch",
        lambda: dcor(X, torch.zeros(2, 6, 0)),
        ValueError,
        "y must have at least one feature, got shape (2, 6, 0)",
    ),
    (
        "six against five",
        lambda: dcov2(torch.zeros(6), torch.zeros(5)),
        ValueError,
        "x and y need the same number of samples, got 6 and 5",
    ),
    (
        "transposed",
        lambda: dcor2(X, Y.T),
        ValueError,
        "x and y need the same number of samples, got 6 and 2",
    ),
    (
        "a vector against a row",
        lambda: dcov2(torch.zeros(6), torch.zeros(1, 6)),
        ValueError,
        "y must have at least 2 samples, got 1",
    ),
    (
        "third sample of another number",
        lambda: pdcor(X, Y, torch.zeros(7, 2)),
        ValueError,
        "x and z need the same number of samples, got 6 and 7",
    ),
    (
        "batches that do not broadcast",
        lambda: dcov2(X.expand(2, 6, 3), Y.expand(3, 6, 2)),
        ValueError,
        "x and y need batch dimensions that broadcast together, got (2,) and (3,)",
    ),
    (
        "batches of three samples",
        lambda: pdcov2(X.expand(2, 6, 3), Y, Y.expand(5, 6, 2)),
        ValueError,
        "x and y and z need batch dimensions that broadcast together, got (2,) and () and (5,)",
    ),
    # -- dtypes and devices
    (
        "two dtypes",
        lambda: dcov2(X, Y.double()),
        TypeError,
        "x and y must have the same dtype, got torch.float32 and torch.float64",
    ),
    (
        "half against single",
        lambda: dcor(X.half(), Y),
        TypeError,
        "x and y must have the same dtype, got torch.float16 and torch.float32",
    ),
    (
        "two half dtypes",
        lambda: dcov(X.half(), Y.bfloat16()),
        TypeError,
        "x and y must have the same dtype, got torch.float16 and torch.bfloat16",
    ),
    (
        "third sample of another dtype",
        lambda: pdcov2(X, Y, Y.double()),
        TypeError,
        "x and z must have the same dtype, got torch.float32 and torch.float64",
    ),
    (
        "two devices",
        lambda: dcov2(X, Y.to("meta")),
        ValueError,
        "x and y must be on the same device, got cpu and meta",
    ),
    # -- weights
    (
        "weights as a list",
        lambda: dcov2(X, Y, weights=[1.0] * 6),
        TypeError,
        "weights must be a torch.Tensor, got list",
    ),
    (
        "whole weights",
        lambda: dcov2(X, Y, weights=torch.ones(6, dtype=torch.int64)),
        TypeError,
        "weights must have a floating-point dtype, got torch.int64",
    ),
    (
        "too few weights",
        lambda: dcor(X, Y, weights=torch.ones(5)),
        ValueError,
        "weights must have shape (n,) or (*batch, n) with n = 6, got (5,)",
    ),
    (
        "weights as a column",
        lambda: dcor2(X, Y, weights=torch.ones(6, 1)),
        ValueError,
        "weights must have shape (n,) or (*batch, n) with n = 6, got (6, 1)",
    ),
    (
        "one weight",
        lambda: dcov(X, Y, weights=torch.tensor(1.0)),
        ValueError,
        "weights must have shape (n,) or (*batch, n) with n = 6, got ()",
    ),
    (
        "weights of another batch",
        lambda: dcov2(X.expand(2, 6, 3), Y, weights=torch.ones(3, 6)),
        ValueError,
        "samples and weights need batch dimensions that broadcast together, got (2,) and (3,)",
    ),
    (
        "weights of another dtype",
        lambda: dvar2(X, weights=torch.ones(6, dtype=F64)),
        TypeError,
        "x and weights must have the same dtype, got torch.float32 and torch.float64",
    ),
    (
        "weights on another device",
        lambda: dvar2(X, weights=torch.ones(6, device="meta")),
        ValueError,
        "x and weights must be on the same device, got cpu and meta",
    ),
    (
        "weights with the unbiased form",
        lambda: dcov2(X, Y, weights=torch.ones(6), unbiased=True),
        ValueError,
        "weights must be None with unbiased=True: no unbiased form is known",
    ),
    # -- options
    (
        "exponent zero",
        lambda: dcov2(X, Y, exponent=0.0),
        ValueError,
        "exponent must be in (0, 2], got 0.0",
    ),
    (
        "exponent above two",
        lambda: dcor(X, Y, exponent=2.1),
        ValueError,
        "exponent must be in (0, 2], got 2.1",
    ),
    (
        "negative exponent",
        lambda: dvar2(X, exponent=-1),
        ValueError,
        "exponent must be in (0, 2], got -1",
    ),
    (
        "exponent not a number",
        lambda: dcov2(X, Y, exponent=float("nan")),
        ValueError,
        "exponent must be in (0, 2], got nan",
    ),
    (
        "exponent as a string",
        lambda: dcov2(X, Y, exponent="1"),
        TypeError,
        "exponent must be a number, got str",
    ),
    (
        "exponent as a tensor",
        lambda: dcov2(X, Y, exponent=torch.tensor(1.0)),
        TypeError,
        "exponent must be a number, got Tensor",
    ),
    (
        "exponent as a flag",
        lambda: dcov2(X, Y, exponent=True),
        TypeError,
        "exponent must be a number, got bool",
    ),
    (
        "unbiased as a number",
        lambda: dcov2(X, Y, unbiased=1),
        TypeError,
        "unbiased must be True or False, got 1",
    ),
    (
        "check_finite as a string",
        lambda: dcov2(X, Y, check_finite="yes"),
        TypeError,
        "check_finite must be True or False, got 'yes'",
    ),
    (
        "method that does not exist",
        lambda: dcov2(X, Y, method="mergesort"),
        ValueError,
        f"method must be one of {METHODS}, got 'mergesort'",
    ),
    (
        "method in capitals",
        lambda: pdcor(X, Y, Y, method="Dense"),
        ValueError,
        f"method must be one of {METHODS}, got 'Dense'",
    ),
    (
        "sliced with another exponent",
        lambda: dcov2(X, Y, exponent=1.5, method="sliced"),
        ValueError,
        "exponent must be 1 with method='sliced', got 1.5",
    ),
    (
        "sliced distances",
        lambda: dcov2(torch.zeros(6, 6), torch.zeros(6, 6), metric="precomputed", method="sliced"),
        ValueError,
        "method must be 'auto' or 'dense' with metric='precomputed', which is n by n already, "
        "got 'sliced'",
    ),
    (
        "projections without slices",
        lambda: dcor2(X, Y, num_projections=64),
        ValueError,
        "num_projections must be None with method='auto': only method='sliced' draws random "
        "directions",
    ),
    (
        "generator without slices",
        lambda: dvar2(X, method="dense", generator=torch.Generator()),
        ValueError,
        "generator must be None with method='dense': only method='sliced' draws random directions",
    ),
    (
        "no projections",
        lambda: dcov(X, Y, method="sliced", num_projections=0),
        ValueError,
        "num_projections must be at least 1, got 0",
    ),
    (
        "fractional projections",
        lambda: dcov2(X, Y, method="sliced", num_projections=8.0),
        TypeError,
        "num_projections must be an integer, got float",
    ),
    (
        "one projection with an error",
        lambda: sliced_dcov2(X, Y, num_projections=1),
        ValueError,
        "num_projections must be at least 2, got 1",
    ),
    (
        "seed for a generator",
        lambda: dcov2(X, Y, method="sliced", generator=3),
        TypeError,
        "generator must be a torch.Generator, got int",
    ),
    (
        "generator of another device",
        lambda: dcov2(X.to("meta"), Y.to("meta"), method="sliced", generator=torch.Generator()),
        ValueError,
        "generator must be on the device of the samples, meta, got cpu",
    ),
    (
        "partial and sliced",
        lambda: pdcov2(X, Y, X, method="sliced"),
        ValueError,
        "method must not be 'sliced' for partial statistics: estimates of the three covariances "
        "make no estimate of the partial one",
    ),
    (
        "partial module, sliced",
        lambda: PDCorLoss(method="sliced"),
        ValueError,
        "method must not be 'sliced' for partial statistics: estimates of the three covariances "
        "make no estimate of the partial one",
    ),
    (
        "module with projections without slices",
        lambda: DCov2Loss(num_projections=8),
        ValueError,
        "num_projections must be None with method='auto': only method='sliced' draws random "
        "directions",
    ),
    (
        "univariate method for two features",
        lambda: dcov2(X[:, :1], Y, method="univariate"),
        ValueError,
        "method 'univariate' cannot run this problem: it takes samples of one feature, and they "
        "have 1 and 2",
    ),
    (
        "univariate method for another exponent",
        lambda: dcor(X[:, 0], Y[:, 0], exponent=0.5, method="univariate"),
        ValueError,
        "method 'univariate' cannot run this problem: it takes exponent 1, got 0.5",
    ),
    (
        "no method",
        lambda: dcor2(X, Y, method=None),
        TypeError,
        "method must be a string, got NoneType",
    ),
    (
        "metric that does not exist",
        lambda: dcov2(X, Y, metric="cosine"),
        ValueError,
        "metric must be one of 'euclidean', 'precomputed', got 'cosine'",
    ),
    (
        "metric as a function",
        lambda: dcov2(X, Y, metric=torch.cdist),
        TypeError,
        "metric must be a string, got function",
    ),
    # -- given distances
    (
        "distances that are not square",
        lambda: dcov2(X, torch.zeros(6, 6), metric="precomputed"),
        ValueError,
        "x must hold distances, shape (*batch, n, n), with metric='precomputed', got shape (6, 3)",
    ),
    (
        "distances as a vector",
        lambda: dcor(torch.zeros(6, 6), torch.zeros(15), metric="precomputed"),
        ValueError,
        "y must hold distances, shape (*batch, n, n), with metric='precomputed', got shape (15,)",
    ),
    (
        "distances of other numbers",
        lambda: dcov2(torch.zeros(6, 6), torch.zeros(5, 5), metric="precomputed"),
        ValueError,
        "x and y need the same number of samples, got 6 and 5",
    ),
    (
        "too few distances",
        lambda: dcov2(torch.zeros(3, 3), torch.zeros(3, 3), metric="precomputed", unbiased=True),
        ValueError,
        "x must have at least 4 samples, got 3",
    ),
    (
        "whole distances",
        lambda: dvar2(torch.zeros(3, 3, dtype=torch.int32), metric="precomputed"),
        TypeError,
        "x must have a floating-point dtype, got torch.int32",
    ),
    (
        "exponent with given distances",
        lambda: dcov2(torch.zeros(6, 6), torch.zeros(6, 6), metric="precomputed", exponent=0.5),
        ValueError,
        "exponent must be 1 with metric='precomputed' (raise the distances to the power "
        "yourself), got 0.5",
    ),
    (
        "tiles of given distances",
        lambda: dcov2(torch.zeros(6, 6), torch.zeros(6, 6), metric="precomputed", method="tiled"),
        ValueError,
        "method must be 'auto' or 'dense' with metric='precomputed', which is n by n already, "
        "got 'tiled'",
    ),
    # -- values, on request
    (
        "nan on request",
        lambda: dcov2(NAN, X[:4], check_finite=True),
        ValueError,
        "x must be finite, got NaN or infinity",
    ),
    (
        "infinity on request",
        lambda: dcor2(X[:4], NAN.nan_to_num(nan=float("inf")), check_finite=True),
        ValueError,
        "y must be finite, got NaN or infinity",
    ),
    (
        "nan in z on request",
        lambda: pdcor(X[:4], Y[:4], NAN, check_finite=True),
        ValueError,
        "z must be finite, got NaN or infinity",
    ),
    (
        "nan among weights on request",
        lambda: dcov(X[:4], Y[:4], weights=NAN, check_finite=True),
        ValueError,
        "weights must be finite, got NaN or infinity",
    ),
    # -- what has no such argument, or no such module setting
    (
        "root of the unbiased form",
        lambda: dcov(X, Y, unbiased=True),
        TypeError,
        "dcov() got an unexpected keyword argument 'unbiased'",
    ),
    (
        "correlation of the unbiased form",
        lambda: dcor(X, Y, unbiased=True),
        TypeError,
        "dcor() got an unexpected keyword argument 'unbiased'",
    ),
    (
        "weights of a partial",
        lambda: pdcor(X, Y, Y, weights=torch.ones(6)),
        TypeError,
        "pdcor() got an unexpected keyword argument 'weights'",
    ),
    (
        "options by place",
        lambda: dcov2(X, Y, True),
        TypeError,
        "dcov2() takes 2 positional arguments but 3 were given",
    ),
    (
        "module with a wrong exponent",
        lambda: DCov2Loss(exponent=3.0),
        ValueError,
        "exponent must be in (0, 2], got 3.0",
    ),
    (
        "module with a wrong method",
        lambda: DCor2Loss(method="fast"),
        ValueError,
        f"method must be one of {METHODS}, got 'fast'",
    ),
    (
        "module with a wrong reduction",
        lambda: DCov2Loss(reduction="max"),
        ValueError,
        "reduction must be one of 'mean', 'sum', 'none', got 'max'",
    ),
    (
        "module with settings by place",
        lambda: DCov2Loss(True),
        TypeError,
        "_UnbiasedLoss.__init__() takes 1 positional argument but 2 were given",
    ),
    (
        "module called with one sample",
        lambda: DCov2Loss()(X),
        TypeError,
        "DCov2Loss.forward() missing 1 required positional argument: 'y'",
    ),
    (
        "operator with a method that does not exist",
        lambda: pair_moments(X, Y, method="fused2"),
        ValueError,
        f"method must be one of {BACKENDS}, got 'fused2'",
    ),
]

ROWS = [*DISTANCE_COVARIANCE]


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize(
    ("call", "error", "message"), [pytest.param(*row[1:], id=row[0]) for row in ROWS]
)
def test_wrong_call(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert str(caught.value) == message


def test_the_table_is_long_and_has_no_row_twice() -> None:
    assert len({row[0] for row in ROWS}) == len(ROWS) >= 60


def test_finite_values_pass_the_check_on_request() -> None:
    assert dcov2(X, Y, check_finite=True, weights=torch.ones(6)).item() == 0.0
    assert DCor2Loss(check_finite=True)(X, Y).item() == 0.0
