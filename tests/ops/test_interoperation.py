"""Libraries that take arrays of any library: what of them works on split arrays, with the values of NumPy."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import array_api_extra as xpx
import numpy as np
import pytest
from layouts import layouts

import minisplit as ms
from minisplit.core.communication.agreement import agreement

special = pytest.importorskip("scipy.special")
stats = pytest.importorskip("scipy.stats")
cluster = pytest.importorskip("scipy.cluster.vq")
sklearn = pytest.importorskip("sklearn")
metrics = pytest.importorskip("sklearn.metrics")
preprocessing = pytest.importorskip("sklearn.preprocessing")
decomposition = pytest.importorskip("sklearn.decomposition")
linear_model = pytest.importorskip("sklearn.linear_model")

rng = np.random.default_rng(0)
ARRAYS = {
    "x": rng.standard_normal((6, 3)),
    "v": rng.uniform(0.1, 1, 7),
    "y": rng.uniform(0.1, 1, 7),
    "i": rng.integers(0, 4, 7),
}
CALLS: dict[str, Callable[[Any], Any]] = {
    "extra.apply_where": lambda a: xpx.apply_where(a.x > 0, (a.x,), lambda b: b * 2, fill_value=0.0),
    "extra.argpartition": lambda a: a.v[xpx.argpartition(a.v, 3)][3],
    "extra.at": lambda a: xpx.at(a.x)[0, :].set(1.0),
    "extra.atleast_nd": lambda a: xpx.atleast_nd(a.v, ndim=2),
    "extra.cov": lambda a: xpx.cov(a.x),
    "extra.create_diagonal": lambda a: xpx.create_diagonal(a.v),
    "extra.isclose": lambda a: xpx.isclose(a.x, a.x),
    "extra.kron": lambda a: xpx.kron(a.v, a.y),
    "extra.nunique": lambda a: xpx.nunique(a.i),
    "extra.one_hot": lambda a: xpx.one_hot(a.i, 4),
    "extra.pad": lambda a: xpx.pad(a.v, 2),
    "extra.setdiff1d": lambda a: xpx.setdiff1d(a.i, a.i[:2]),
    "extra.sinc": lambda a: xpx.sinc(a.x),
    "extra.union1d": lambda a: xpx.union1d(a.i, a.i[:2]),
    "scipy.special.expit": lambda a: special.expit(a.v),
    "scipy.special.gammaln": lambda a: special.gammaln(a.v),
    "scipy.special.log_softmax": lambda a: special.log_softmax(a.x, axis=0),
    "scipy.special.logsumexp": lambda a: special.logsumexp(a.x, axis=0),
    "scipy.special.softmax": lambda a: special.softmax(a.x, axis=1),
    "scipy.special.xlogy": lambda a: special.xlogy(a.v, a.y),
    "scipy.stats.entropy": lambda a: stats.entropy(a.v),
    "scipy.stats.gmean": lambda a: stats.gmean(a.v),
    "scipy.stats.hmean": lambda a: stats.hmean(a.v),
    "scipy.stats.kurtosis": lambda a: stats.kurtosis(a.v),
    "scipy.stats.moment": lambda a: stats.moment(a.v, 2),
    "scipy.stats.pearsonr": lambda a: stats.pearsonr(a.v, a.y).statistic,
    "scipy.stats.sem": lambda a: stats.sem(a.v),
    "scipy.stats.skew": lambda a: stats.skew(a.v),
    "scipy.stats.ttest_1samp": lambda a: stats.ttest_1samp(a.v, 0.5).pvalue,
    "scipy.stats.variation": lambda a: stats.variation(a.v),
    "scipy.stats.zscore": lambda a: stats.zscore(a.v),
    "scipy.cluster.vq.whiten": lambda a: cluster.whiten(a.x),
    "sklearn.MaxAbsScaler": lambda a: preprocessing.MaxAbsScaler().fit_transform(a.x),
    "sklearn.MinMaxScaler": lambda a: preprocessing.MinMaxScaler().fit_transform(a.x),
    "sklearn.Normalizer": lambda a: preprocessing.Normalizer().fit_transform(a.x),
    "sklearn.StandardScaler": lambda a: preprocessing.StandardScaler().fit_transform(a.x),
    "sklearn.PCA": lambda a: decomposition.PCA(2, svd_solver="full").fit(a.x).explained_variance_,
    "sklearn.Ridge": lambda a: linear_model.Ridge(solver="svd").fit(a.x, a.x[:, 0]).coef_,
    "sklearn.accuracy_score": lambda a: metrics.accuracy_score(a.i, a.i),
    "sklearn.mean_absolute_error": lambda a: metrics.mean_absolute_error(a.v, a.y),
    "sklearn.mean_squared_error": lambda a: metrics.mean_squared_error(a.v, a.y),
    "sklearn.r2_score": lambda a: metrics.r2_score(a.v, a.y),
    "sklearn.rbf_kernel": lambda a: metrics.pairwise.rbf_kernel(a.x, a.x),
}


@pytest.mark.filterwarnings("ignore")  # what other libraries warn of is not our business
@pytest.mark.parametrize("name", CALLS)
def test_values_are_those_of_numpy(comm: ms.Communication, name: str) -> None:
    wanted = CALLS[name](SimpleNamespace(**ARRAYS))
    with sklearn.config_context(array_api_dispatch=True), agreement(comm, name):
        for place in (1, 2):  # split 0, evenly and not
            arrays = {k: ms.array(x).to_layout(layouts(x.shape, comm.size)[place]) for k, x in ARRAYS.items()}
            result = CALLS[name](SimpleNamespace(**arrays))
            assert isinstance(result, ms.DNDarray | float)
            np.testing.assert_allclose(np.asarray(result), wanted, rtol=1e-8, atol=1e-12)
