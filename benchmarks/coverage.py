"""How often every interval that this package prints holds the truth: populations with a known truth, test sets drawn from them.

    OMP_NUM_THREADS=1 python benchmarks/coverage.py --out benchmarks/coverage.md

Nominal are .95. A row is one kind of number; its columns say in how many cases (of sizes and of populations) it was tried, how often it
had an interval at all, the mean and the extremes of the coverage over the cases, and how far chance alone moves a single case and their mean.
More tries: `--share 5`.
"""
import argparse
import platform
import sys
import warnings

import numpy as np
import pandas as pd
from scipy.special import expit

from foprokd.measure.calibration import coverage
from foprokd.measure.compare import compare_runs
from foprokd.measure.intervals import drawn_interval, group_weights, mean_interval, mean_share_interval, share_interval
from foprokd.measure.metrics import bootstrap_intervals, evaluate, results_table
from foprokd.measure.rows import pack_ints
from foprokd.measure.scores import recall_weights, scores_from_counts, weighted_scores

SIZES = {30: (9, 6, 4, 4, 3, 2, 2), 100: (30, 22, 16, 12, 9, 6, 5), 300: (100, 70, 50, 34, 24, 14, 8)}
FEW = {n: (n,) * 8 for n in (2, 3, 5, 9, 20, 40)}
TRUTHS = dict(falling=(.95, .15), rising=(.3, .9), high=(.97, .93), middle=(.5, .5))


def held(lo, hi, truth):
    "Coverage of intervals with NaN for none, and the share that has one"
    some = ~np.isnan(lo)
    return np.mean((lo - 1e-9 <= truth) & (truth <= hi + 1e-9), where=some) if some.any() else np.nan, some.mean()


def cases():
    "Name, images per class, recalls"
    for n, ks in {**SIZES, **FEW}.items():
        for name, (a, b) in TRUTHS.items():
            yield f'{n} {"images" if ks in SIZES.values() else "a class"}, {name}', np.array(ks), np.linspace(a, b, len(ks))


def thirds(c): return dict(head=range(c // 3), medium=range(c // 3, c - 3), tail=range(c - 3, c))


def shares(rng, reps):
    "Recall of a class, and the means of recalls, as `evaluate` gives them"
    for n in (2, 3, 5, 9, 20, 40):
        for name, (a, b) in dict(any=(0, 1), high=(.8, 1), low=(0, .2)).items(): # a class is one of many: its recall is drawn
            p = rng.uniform(a, b, reps)
            share = rng.binomial(n, p) / n
            yield 'recall of a class', f'{n}, {name}', *held(*share_interval(share, share * (1 - share) / n, n), p), reps
    for name, n, p in cases():
        found = rng.binomial(n, p, (reps, len(n))) / n
        for k, w in recall_weights(n, thirds(len(n))).items():
            yield k, name, *held(*mean_share_interval(found, n, w), p @ w), reps


def population(rng, n, signal, bias):
    "Probabilities and classes of a made-up classifier, which leans to the first classes"
    y = np.repeat(np.arange(len(n)), n)
    z = rng.normal(size=(len(y), len(n))) + signal * np.eye(len(n))[y] + bias * np.linspace(1, -1, len(n))
    p = np.exp(1.5 * (z - z.max(1, keepdims=True)))
    return p / p.sum(1, keepdims=True), y


def scores(rng, reps):
    "MCC, macro F1, macro AUROC and the calibration error of `evaluate`"
    sizes = {**SIZES, 3: (3,) * 7, 9: (9,) * 7, 20: (20,) * 7, 40: (40,) * 7, 500: (200, 100, 70, 50, 40, 25, 20)}
    for n, ks in sizes.items():
        for signal, bias in ((1., 1.), (2.5, .5), (4., 0.)):
            big = np.array(ks) * (30_000 // sum(ks))
            p, y = population(rng, big, signal, bias)
            truth = weighted_scores(p, y, np.ones((1, len(y))), {})
            ends = [bootstrap_intervals(*population(rng, ks, signal, bias), {}, n_boot=100) for _ in range(reps)]
            for k in ('mcc', 'macro_f1', 'macro_auroc', 'ece'):
                lo, hi = np.array([o.get(k, [np.nan] * 2) for o in ends]).T
                yield k, f'{n}, {signal}', *held(lo, hi, truth[k][0]), reps


def student(rng, reps):
    "Mean over seeds of `results_table`, on the same test images"
    for s in (2, 3, 5):
        for mean, sd in ((.5, .02), (.95, .03), (.03, .02)):
            v = np.clip(rng.normal(mean, sd, (reps, s)), 0, 1)
            big = np.clip(rng.normal(mean, sd, 100_000), 0, 1).mean()
            ends = np.array([results_table([dict(method='a', seed=i, recall_tail=o) for i, o in enumerate(r)], metrics=['recall_tail'])
                             ['recall_tail'][['lo', 'hi']].to_numpy()[0] for r in v]).T
            yield 'mean over seeds (foprokd_run)', f'{s} seeds, {mean}', *held(*ends, big), reps


def networks(rng, n, means, seeds, between=.3, easy=1.5, own=.7):
    "Hits (M,S,N) of methods and seeds on the same images, and the recalls (M,S,C) of each network"
    y, c = np.repeat(np.arange(len(n)), n), len(n)
    image, hits, recall = rng.normal(0, easy, len(y)), [], []
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    for m in means:
        net = m + rng.normal(0, between, (seeds, c))
        hits.append(rng.random((seeds, len(y))) < expit(net[:, y] + image + rng.normal(0, own, len(y))))
        recall.append(expit(net[..., None] + np.hypot(easy, own) * nodes) @ weights / weights.sum())
    return y, np.array(hits), np.array(recall)


def expected(recall, n, groups):
    "Scores of networks with these recalls (...,C), mistakes falling evenly on the other classes"
    hit = recall.reshape(-1, len(n)) * n
    wrong = n - hit
    called = hit + (wrong.sum(1, keepdims=True) - wrong) / (len(n) - 1)
    out = scores_from_counts(hit, np.broadcast_to(n, hit.shape).astype(float), called, groups)
    return {k: v.reshape(recall.shape[:-1]) for k, v in out.items() if k != 'class_recall'}


def compared(rng, reps):
    "Means and differences of `compare_runs` (foprokd_table, foprokd_plot)"
    names = 'balanced_accuracy recall_tail recall_mean_of_groups accuracy mcc macro_f1'.split()
    for n, ks in {**SIZES, 5: FEW[5], 20: FEW[20]}.items():
        ks, c, groups = np.array(ks), len(ks), thirds(len(ks))
        word = [g for k in range(c) for g in groups if k in groups[g]]
        for level, slope in dict(falling=np.linspace(2, -1, c), high=np.linspace(4, 3, c)).items():
            for seeds, kind in ((1, 'images'), (3, 'images'), (2, 'both'), (3, 'both'), (5, 'both')):
                means = slope - .5, slope
                many = np.stack([networks(rng, ks[:1].repeat(c) * 0 + 1, means, 2000)[2]])[0] # networks without number
                of_all = {k: v.mean(1) for k, v in expected(many, ks, groups).items()}
                tries = []
                for _ in range(reps):
                    y, hits, recall = networks(rng, ks, means, seeds)
                    wrong = (y + rng.integers(1, c, hits.shape)) % c
                    rows = [dict(name=m, method=m, seed=s, settings_hash=m, settings=dict(data='x', method=m), classes=[*map(str, range(c))],
                                 class_groups=word, n_train=9, predictions=dict(
                                     targs=pack_ints(y), preds=pack_ints(np.where(hits[i, s], y, wrong[i, s])), groups=None, test_hash='t'))
                            for i, m in enumerate('ab') for s in range(seeds)]
                    t = compare_runs(rows, baseline='a', metrics=names, interval=kind, n_boot=200).set_index(['metric', 'label'])
                    own = {k: v.mean(1) for k, v in expected(recall, ks, groups).items()} if kind == 'images' else of_all
                    for m in names:
                        b, truth = t.loc[(m, 'b')], own[m]
                        tries.append((m, *b[['lo', 'hi', 'diff_lo', 'diff_hi']].astype(float), truth[1], truth[1] - truth[0]))
                df = pd.DataFrame(tries, columns=['m', 'lo', 'hi', 'dlo', 'dhi', 'mean', 'diff'])
                for m, o in df.groupby('m', sort=False):
                    case = f'{n}, {level}, {seeds} seeds'
                    yield f'{m}, {kind}', case, *held(o.lo.to_numpy(), o.hi.to_numpy(), o['mean'].to_numpy()), reps
                    yield f'difference of {m}, {kind}', case, *held(o.dlo.to_numpy(), o.dhi.to_numpy(), o['diff'].to_numpy()), reps


def means(rng, reps):
    "Means over images: spectra, sensitivity, set sizes"
    for n in (2, 4, 8, 16, 30, 100):
        for name, y, truth in (('normal', rng.normal(size=(n, reps)), 0), ('skewed', rng.lognormal(0, .5, (n, reps)), np.exp(.125))):
            yield 'mean over images', f'{n}, {name}', *held(*mean_interval(y, np.arange(n)), truth), reps
        g = np.repeat(np.arange(n), 1 + np.arange(n) % 3)
        y = rng.normal(size=(n, reps))[g] + rng.normal(size=(len(g), reps))
        yield 'mean over images of lesions', str(n), *held(*mean_interval(y, g), 0), reps


def covers(rng, reps):
    "Coverage of conformal sets and their size, one image or several of a lesion"
    for n in (10, 30, 100, 300):
        for p in (.8, .9, .97):
            for several in (False, True):
                size, ends, sizes = np.array([.2, .6, .2]) @ [0, 1, 2] + 1, [], []
                for _ in range(reps):
                    g = np.repeat(np.arange(n), 1 + np.arange(n) % 3 if several else 1)
                    hit = np.where(rng.random(len(g)) < .5, (rng.random(n) < p)[g], rng.random(len(g)) < p)
                    more = rng.choice(3, n, p=[.2, .6, .2])[g]
                    sets = np.zeros((len(g), 4), bool)
                    sets[:, 0] = hit
                    for k in range(3): sets[:, k + 1] = more >= k # sizes 1 to 3, and the true class
                    o = coverage(sets, np.zeros(len(g), int), lesions=g)
                    ends.append(o['coverage_ci'])
                    sizes.append(o['set_size_ci'] or [np.nan] * 2)
                yield f'coverage of sets{", lesions" * several}', f'{n}, {p}', *held(*np.array(ends).T, p), reps
                yield f'size of sets{", lesions" * several}', f'{n}, {p}', *held(*np.array(sizes, float).T, size + p), reps


def eight_bits(rng, reps):
    "Loss and agreement of a student in eight bits, verdicts seldom changed"
    from foprokd.deploy.loss import paired_losses
    for n, ks in {**SIZES, 20: FEW[20]}.items():
        c, groups = len(ks), thirds(len(ks))
        for noise in (.1, .5):
            def pair(sizes, noise=noise, c=c):
                y = np.repeat(np.arange(c), sizes)
                z = rng.normal(size=(len(y), c)) + 2 * np.eye(c)[y]
                soft = [np.exp(o) / np.exp(o).sum(1, keepdims=True) for o in (z, z + noise * rng.normal(size=z.shape))]
                return *soft, y
            p, q, y = pair(np.array(ks) * (100_000 // sum(ks)))
            truth = {k: (a - b)[0] for (k, a), b in zip(weighted_scores(p, y, np.ones((1, len(y))), groups).items(),
                                                        weighted_scores(q, y, np.ones((1, len(y))), groups).values())}
            same, ends, agree = (p.argmax(1) == q.argmax(1)).mean(), [], []
            for _ in range(reps):
                p, q, y = pair(ks)
                found = paired_losses(p, q, y, groups, np.arange(len(y)), 60, 0)
                ends.append({k: o['loss_ci'] for k, o in found.items()})
                alike = (p.argmax(1) == q.argmax(1)).mean()
                agree.append(share_interval(alike, 0, len(y)))
            for k in ('balanced_accuracy', 'recall_tail', 'mcc', 'macro_f1', 'macro_auroc'):
                lo, hi = np.array([o[k] for o in ends]).T
                yield f'loss of {k} in 8 bits', f'{n}, {noise}', *held(lo, hi, truth[k]), reps
            yield 'agreement of 8 bits', f'{n}, {noise}', *held(*np.array(agree).T, same), reps


def readings(rng, reps):
    "What is no mean: centroids, rank correlations, distances"
    from foprokd.deploy.latency import timing_summary
    for n in (5, 7, 10, 20, 100):
        t = [pd.DataFrame(dict(batch=1, round=np.tile(np.arange(n), 2), model=np.repeat(['a', 'b'], n),
                               seconds=np.r_[np.ones(n), rng.lognormal(0, .3, n)])) for _ in range(reps // 4)]
        lo, hi = np.array([timing_summary(o, 'a').set_index('model').loc['b', ['ratio_lower', 'ratio_upper']] for o in t], float).T
        yield 'ratio of medians of time', str(n), *held(lo, hi, 1.), reps // 4
    from foprokd.frequency.bands import PromptResponse
    from foprokd.frequency.reading import rank_correlation
    from scipy.ndimage import gaussian_filter
    def field(n):
        f = gaussian_filter(rng.normal(size=(n, 16, 9)), (0, 2, 2))
        return f / f.std((1, 2), keepdims=True)
    for n in (8, 30, 100):
        for noise in (.3, 1.):
            for alike in (0., .7, .97):
                ends, truths = [], []
                for _ in range(reps // 4):
                    a = field(1)
                    b = alike * a + (1 - alike**2)**.5 * field(1)
                    truths.append(rank_correlation(a, b, 16, n_boot=0)['rho'])
                    shared = field(n)
                    o = rank_correlation(a + noise * (shared + field(n)), b + noise * (shared + field(n)), 16, paired=True, n_boot=100)
                    ends.append((o['lower'], o['upper']))
                yield 'rank correlation of maps', f'{n}, {noise}, {alike}', *held(*np.array(ends).T, np.array(truths)), reps // 4
    radius = np.linspace(.05, .7, 20)
    curve = np.exp(-((radius - .25) / .15)**2)
    for n in (8, 30, 100):
        ends, drift, far = [], [], .5 * abs(curve / curve.sum() - curve[::-1] / curve.sum()).sum()
        for _ in range(reps):
            y, z = (c * rng.lognormal(0, .5, (n, 20)) for c in (curve, curve[::-1]))
            w = group_weights(np.arange(n), rng, 100)
            def centre(o): return (o @ radius) / o.sum(-1)
            def apart(o, p): return .5 * abs(o / o.sum(-1, keepdims=True) - p / p.sum(-1, keepdims=True)).sum(-1)
            ends.append(drawn_interval(centre(y.mean(0)), centre(w @ y), n))
            drift.append(drawn_interval(apart(y.mean(0), z.mean(0)), apart(w @ y, w @ z), n))
        yield 'centroid of a spectrum', str(n), *held(*np.array(ends).T, centre(curve)), reps
        yield 'distance of two profiles', str(n), *held(*np.array(drift).T, far), reps
    for n in (20, 50, 200):
        ks, ends = np.array([.5, .3, .2]), []
        y = np.repeat(np.arange(3), (ks * n).astype(int))
        p = np.array([.9, .6, .4])
        for _ in range(reps // 2):
            hit = rng.random((2, len(y))) < p[y] - np.array([[0], [.1]])
            o = PromptResponse(pd.DataFrame(dict(prompt=['a'])), np.ones((1, len(y))), np.ones((1, len(y))), np.arange(len(y)), labels=y, correct=hit)
            t = o.frame(n_boot=100).set_index('measure')
            ends.append([*t.loc['balanced accuracy', ['lower', 'upper']], *t.loc['loss', ['lower', 'upper']], *t.loc['recall of 2', ['lower', 'upper']]])
        e = np.array(ends, float).T
        for k, i, truth in (('balanced accuracy', 0, p.mean() - .1), ('loss', 2, .1), ('recall', 4, .3)):
            yield f'probe under prompts, {k}', str(n), *held(e[i], e[i + 1], truth), reps // 2


PARTS = dict(shares=(shares, 20_000), scores=(scores, 40), student=(student, 100), compared=(compared, 24), means=(means, 10_000),
             covers=(covers, 100), eight_bits=(eight_bits, 40), readings=(readings, 80))


def simulate(parts=tuple(PARTS), share=1., seed=0):
    "One row per interval and case: interval, case, coverage, printed (share), tries"
    rows = []
    for name in parts:
        part, reps = PARTS[name]
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            rows += part(np.random.default_rng(seed), max(int(reps * share), 8))
    return pd.DataFrame(rows, columns=['interval', 'case', 'coverage', 'printed', 'tries'])


def summary(df):
    "One row per interval"
    g = df[df.printed > 0].groupby('interval', sort=False)
    res = pd.DataFrame(dict(cases=g.size(), printed=g.printed.mean(), mean=g.coverage.mean(), lowest=g.coverage.min(), highest=g.coverage.max(),
                            one=2 * np.sqrt(.95 * .05 / g.tries.min()), all=2 * np.sqrt(.95 * .05 / g.tries.sum())))
    none = [k for k in dict.fromkeys(df.interval) if k not in res.index]
    return res.reindex(list(dict.fromkeys(df.interval))), none


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', help='Markdown file; default: print')
    parser.add_argument('--csv', help='file for every single case')
    parser.add_argument('--only', nargs='*', default=list(PARTS), choices=list(PARTS))
    parser.add_argument('--share', type=float, default=1., help='of the tries')
    args = parser.parse_args()
    df = simulate(args.only, args.share)
    if args.csv: df.round(4).to_csv(args.csv, index=False)
    table, none = summary(df)
    lines = ['# How often intervals hold the truth', '', 'Nominal are .95. `printed` is the share of the tries that had an interval, `chance` twice the Monte Carlo error of one case, and of the mean: extremes within it say nothing.', '',
             '| interval | cases | printed | mean | lowest | highest | chance, one | chance, mean |', '|---|---:|---:|---:|---:|---:|---:|---:|']
    lines += [f'| {k} | {r.cases:.0f} | {r.printed:.2f} | {r["mean"]:.3f} | {r.lowest:.3f} | {r.highest:.3f} | {r.one:.3f} | {r["all"]:.3f} |' for k, r in table.dropna().iterrows()]
    lines += ['', f'Never printed: {", ".join(none) or "none"}.', '',
              f'`OMP_NUM_THREADS=1 python {" ".join(sys.argv)}`; Python {platform.python_version()}, NumPy {np.__version__}, '
              f'{platform.system()} {platform.machine()}, one thread.', '']
    text = '\n'.join(lines)
    if args.out: open(args.out, 'w').write(text)
    else: print(text) # noqa: T201
    assert evaluate([[.6, .4], [.3, .7]], [0, 1], [2, 1], n_boot=2)['ece_ci'] is None
