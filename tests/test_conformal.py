"Conformal sets beside those of crepes, which somebody else wrote: the same classes in every set, but where a score lies on the threshold."
import numpy as np
import pytest

from foprokd.measure.calibration import conformal_sets, conformal_thresholds

ConformalClassifier = pytest.importorskip('crepes').ConformalClassifier


def answers(n, rng):
    "(n,5) probabilities and (n,) classes that they know something of"
    z = rng.normal(size=(n, 5)) * 2
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    return p, np.array([rng.choice(5, p=q) for q in p])


def crepes_sets(p, y, new, level, by_class):
    "(N,5) bool, from the p-values of crepes without smoothing"
    scores, classes, alpha = 1 - p[np.arange(len(y)), y], range(new.shape[1]), 1 - level + 1e-9  # .2 is not more than 1 - .8
    if not by_class: return ConformalClassifier().fit(scores).predict_p(1 - new, smoothing=False) > alpha
    ours = ConformalClassifier().fit(scores, bins=y)
    return np.stack([ours.predict_p(1 - new[:, [c]], bins=np.full(len(new), c), smoothing=False)[:, 0] for c in classes], 1) > alpha


@pytest.mark.parametrize('by_class', [True, False])
@pytest.mark.parametrize('level', [.8, .9, .95])
@pytest.mark.parametrize('n', [60, 397])
def test_sets_are_those_of_crepes(n, level, by_class):
    rng = np.random.default_rng(n)
    (p, y), (new, _) = answers(n, rng), answers(500, rng)
    sets = conformal_sets(new, conformal_thresholds(p, y), level, by_class)
    theirs = crepes_sets(p, y, new, level, by_class)
    assert (sets != theirs).mean() < 1e-4  # 1e-6 is added to our thresholds, for float32
    assert n < 100 or .2 < sets.mean() < .9 and .2 < theirs.mean() < .9
