"""Numbers that promise too much: intervals that do not cover, optima at a border, captions that do not hold (A13, B5, E1 to E4, E10, E11)."""
import inspect
import json
import runpy
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from foprokd.deploy.export import calibrate_notes
from foprokd.deploy import graph
from foprokd.deploy.card import model_card
from foprokd.deploy.graph import check_folder
from foprokd.deploy.latency import timing_summary
from foprokd.deploy.notes import Notes
from foprokd.deploy.onnx_student import _why_refused
from foprokd.deploy.predict import _about
from foprokd.measure.calibration import calibrate, conformal_thresholds, coverage, fit_temperature
from foprokd.measure.compare import compare_runs
from foprokd.measure.intervals import drawn_interval, mean_interval, mean_share_interval, share_interval
from foprokd.measure.metrics import evaluate, format_table, longtail_metrics, results_table
from foprokd.measure.results import load_results
from foprokd.measure.rows import pack_ints
from foprokd.measure.table import format_results
from foprokd.study.shown import foprokd_plot, foprokd_table
from foprokd.study.jobs import summary_table

ROOT = Path(__file__).parent.parent


def turned(row, n):
    "Logits (n,C) that give the true class the first number of `row`"
    y = np.arange(n) % len(row)
    return np.array(row)[(np.arange(len(row)) - y[:, None]) % len(row)], y


def quiet(f, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return f(*args, **kwargs)


@pytest.mark.parametrize('row, n', [((1, .5, 0), 300), ((9, 0, 0), 60), ((.01, 0, 0, 0), 300), ((40, -40), 20), ((2, 2, 0), 99)])
@pytest.mark.parametrize('weights', [None, 'balanced'])
def test_a13_without_an_error_nothing_is_sharpened(row, n, weights):
    "A13: as long as the likelihood only grows, also with ties, the temperature is 1, with a word"
    with pytest.warns(UserWarning, match='do not determine the temperature'): t = fit_temperature(*turned(row, n), weights)
    assert t == 1
    out = quiet(calibrate, *turned(row, n), weights)
    assert out['temperature'] == 1 and out['at_bound'] and out['why_not'] and max(out['fold_temperatures']) == 1


def test_a13_errors_that_say_nothing():
    "A13: one error by a hair, or an error in an image of weight 0, leave the likelihood growing"
    z, y = turned((1, .5, 0), 300)
    z[0] = [.499, .5, 0]
    assert quiet(fit_temperature, z, y) == 1
    z[0] = [-5, .5, 0]
    assert quiet(fit_temperature, z, y, np.r_[0, np.ones(299)]) == 1
    assert quiet(fit_temperature, *turned((0, 1, 2), 90)) == pytest.approx(20), 'all wrong: as soft as it gets, never sharper'


def test_a13_what_the_data_show_is_used():
    "A13: legitimate fits stay as they were, sharper than 1 too, and without a word"
    rng = np.random.default_rng(0)
    y = np.arange(600) % 4
    for scale in (.02, .3, 1., 4.):
        z = (rng.normal(size=(600, 4)) + 2 * np.eye(4)[y])
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            assert fit_temperature(z * scale, y) == pytest.approx(scale / 2, rel=.15)


def test_a13_file_about_and_card_say_it():
    "A13: the file, `--about` and the card name a temperature that was not determined, of older files too"
    z, y = turned((1, .5, 0), 60)
    notes = Notes(classes=['a', 'b', 'c'], logit_scale=1., temperature=1., prior=[1/3] * 3, prior_of_logits=[1/3] * 3, counts=[9, 4, 1],
                  resize=None, input_size=[8, 8], open='upright', white=255.)
    quiet(calibrate_notes, notes, z, y, None)
    assert notes.temperature == 1 and json.loads(notes.to_json())['temperature_source'].startswith('not determined: every image')
    assert 'did not determine the temperature' in str(model_card(notes)) and '(not determined: every image' in str(model_card(notes))
    class Told:
        classes = notes.classes
    Told.notes = Notes.from_json(notes.to_json())
    Told.notes.resize = type('R', (), dict(method='squish'))
    assert _about(Told)['temperature from'].startswith('not determined')
    old = Notes.from_dict(dict(classes=['a', 'b'], temperature=.05, calibration=dict(at_bound=True), counts=[2, 1]))
    assert 'did not determine the temperature' in str(model_card(old))
    assert 'did not determine' not in str(model_card(Notes(classes=['a', 'b'], counts=[2, 1], calibration=dict(at_bound=False))))


def test_a13_thresholds_at_the_border_are_named():
    "A13: a conformal threshold of 1, for a class or for all, is said in the file and by `--about`"
    rng = np.random.default_rng(0)
    y = np.r_[np.zeros(12, int), 1]
    p = rng.dirichlet([2, 2], 13)
    q = conformal_thresholds(p, y, (.8, .95))
    assert q['0.8']['too_few'] == [1] and not q['0.8']['too_few_overall']
    assert q['0.95']['too_few'] == [0, 1] and q['0.95']['too_few_overall'] and q['0.95']['overall'] == 1


# Intervals


def test_must_show_4_every_interval_covers():
    "A short twin of benchmarks/coverage.py: the mean coverage of each kind, over sizes from 30 to 300 images and 2 to 40 a class"
    parts = dict(shares=.08, means=.05, student=.4, covers=.3, readings=.25)
    simulated = runpy.run_path(str(Path(__file__).parents[1]/'benchmarks'/'coverage.py'))  # `import coverage` is coverage.py
    df = pd.concat([simulated['simulate']([k], share) for k, share in parts.items()])
    table, none = simulated['summary'](df)
    assert not none
    error = 2.5 * (.95 * .05 / df.groupby('interval').tries.sum().reindex(table.index))**.5
    low, high = table['mean'] + error, table['mean'] - error
    assert (low > .93).all() and (high < .985).all(), table


@pytest.mark.parametrize('n', [1, 2, 3, 6, 40])
@pytest.mark.parametrize('right', [0, 1])
def test_e2_no_interval_of_width_zero(n, right):
    "E2: none right, or all right, in classes, groups and means, for any number of images"
    y = np.repeat(np.arange(3), n)
    p = np.eye(3)[y if right else (y + 1) % 3] * .9 + .1 / 3
    s = evaluate(p, y, [9, 4, 2], n_boot=50)
    ends = {k: v for k, v in s.items() if k.endswith('_ci') and v is not None and k != 'per_class_recall_ci'}
    assert {'recall_tail_ci', 'balanced_accuracy_ci', 'accuracy_ci'} <= set(ends)
    for k, (lo, hi) in ends.items(): assert hi - lo > .01 and (-1 if k == 'mcc_ci' else 0) <= lo < hi <= 1, k
    tail = s['recall_tail_ci']
    assert tail == pytest.approx(share_interval(right, 0, n).tolist())


def test_e2_few_images_cover():
    "E2: below nine images a class"
    rng = np.random.default_rng(0)
    for n in (2, 3, 5, 8):
        truth = rng.uniform(.05, .95, (4000, 6)) # another population each time
        lo, hi = mean_share_interval(rng.binomial(n, truth) / n, [n] * 6)
        inside = np.mean((lo <= truth.mean(1)) & (truth.mean(1) <= hi))
        assert .93 < inside < .975, (n, inside)


def test_e3_no_interval_of_the_calibration_error(tmp_path):
    "E3: neither in a row, nor over seeds, nor in a table of any kind, nor of an older row"
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(3), 30)
    s = evaluate(rng.dirichlet([1, 1, 1], 90), y, [9, 4, 2], n_boot=20)
    assert s['ece'] > 0 and s['ece_ci'] is None and s['accuracy_ci']
    text = summary_table([dict(s, method='a', ece_ci=[.1, .2])]).to_string()
    assert f"{s['ece']:.3f}\n" in text + '\n' and '0.200]' not in text
    assert format_table(results_table([dict(s, method='a', seed=i, ece=s['ece'] + i / 99) for i in range(3)])).ece.item().count('[') == 0
    tidy = compare_runs(load_results(ROOT/'results'/'skin_walkthrough.jsonl'), interval='seeds', metrics='ece')
    assert tidy.lo.isna().all() and set(tidy.interval) == {'sd'}


@pytest.mark.parametrize('n', [2, 3, 4, 8, 30])
def test_e4_mean_interval_is_students(n):
    "E4: few images, or few lesions of several images"
    rng = np.random.default_rng(n)
    y = rng.normal(3, 1, (n, 4000))
    lo, hi = mean_interval(y, np.arange(n), rng)
    ref = stats.ttest_1samp(y, 0).confidence_interval(.95)
    np.testing.assert_allclose([lo, hi], [ref.low, ref.high])
    assert .935 < np.mean((lo <= 3) & (3 <= hi)) < .965
    np.testing.assert_allclose(mean_interval(np.repeat(y, 3, 0), np.repeat(np.arange(n), 3), rng), [lo, hi])
    assert np.isnan(mean_interval(np.ones((n, 2)), np.arange(n), rng)).all(), 'no interval of width zero'


def rows_of(skills, seeds, n=(20, 10, 6), predictions=True, seed=0):
    "Rows as `run_experiment` writes them"
    rng, out, y = np.random.default_rng(seed), [], np.repeat(np.arange(len(n)), n)
    hard = rng.normal(size=len(y))
    for name, skill in skills.items():
        for s in range(seeds):
            z = np.where(skill + .2 * rng.normal() + .5 * rng.normal(size=len(y)) > hard, y, (y + 1) % len(n))
            scores = evaluate(np.eye(len(n))[z], y, [9, 4, 2], n_boot=0)
            said = dict(predictions=dict(targs=pack_ints(y), preds=pack_ints(z), groups=None, test_hash='t')) if predictions else {}
            out.append(dict(name=name, method=name, seed=s, settings_hash=name, settings=dict(data='x', method=name), classes=['a', 'b', 'c'],
                            class_groups=['head', 'medium', 'tail'], class_counts=dict(train=[9, 4, 2]), n_train=9, **scores, **said))
    return out


def test_e1_both_is_the_default_from_two_seeds_on():
    "E1: also in the two commands; one seed is about its networks only, and the caption says so"
    many, one = rows_of(dict(a=.5, b=.6), 3), rows_of(dict(a=.5, b=.6), 1)
    metrics = 'balanced_accuracy recall_tail accuracy'
    t = compare_runs(many, baseline='a', metrics=metrics)
    assert set(t.interval) == {'both'}
    pd.testing.assert_frame_equal(t, compare_runs(many, baseline='a', metrics=metrics, interval='both'))
    text = format_results(t)
    assert 'interval for other seeds and other test images]' in text and 'about 0.15 would exclude zero' in text
    single = format_results(compare_runs(one, baseline='a', metrics=metrics))
    assert 'for these trained networks only' in single and 'about 0.15' not in single and 'do not hold another seed' in single
    seeds = format_results(compare_runs(many, baseline='a', metrics=metrics, interval='seeds'))
    assert 'on these test images only' in seeds and 'do not hold other test images' in seeds
    assert compare_runs(rows_of(dict(a=.5, b=.6), 3, predictions=False)).attrs['interval'] == 'seeds'
    mixed = compare_runs([*many, *rows_of(dict(c=.7), 1)], metrics=metrics).set_index('label')
    assert mixed.loc['c'].lo.isna().all() and mixed.loc['a'].lo.notna().all(), 'one seed among several has no interval, rather than one that is too sure'
    for command in (foprokd_table, foprokd_plot): assert inspect.signature(command).parameters['interval'].default == ''


def test_e2_tables_have_no_width_zero_and_stay_inside():
    "E2 and intervals outside [0,1]: tail never right, all right, one seed or several, means and differences"
    for skills in (dict(a=-9, b=-9), dict(a=9, b=9), dict(a=9, b=-9), dict(a=2.5, b=2.6)):
        for seeds in (1, 3):
            for kind in ('images', 'both', 'seeds'):
                t = compare_runs(rows_of(skills, seeds, (12, 6, 2)), baseline='a', interval=kind, n_boot=20)
                bound = np.where(t.metric == 'mcc', 1, 0)
                some, diff = t[t.lo.notna()], t[t.diff_lo.notna()]
                assert (some.hi - some.lo > 1e-3).all() and (diff.diff_hi - diff.diff_lo > 1e-3).all()
                assert ((some.lo >= -bound[t.lo.notna()]) & (some.hi <= 1)).all()
                assert (diff.diff_lo.abs() <= 1 + bound[t.diff_lo.notna()]).all() and (diff.diff_hi.abs() <= 1 + bound[t.diff_lo.notna()]).all()
    rows = [dict(method='a', seed=i, recall_tail=v, mcc=v, recall_tail_ci=None, mcc_ci=None, seconds=100 * i) for i, v in enumerate((.9, 1., 1.))]
    t = results_table(rows, metrics=['recall_tail', 'mcc', 'seconds'])
    assert t['recall_tail', 'hi'].item() == 1 and t['seconds', 'lo'].item() < 0, 'what is no score is not cut'
    assert results_table([dict(r, mcc=0.) for r in rows], metrics=['mcc'])['mcc', 'lo'].isna().all()


def test_e1_rows_of_010_are_read(capsys):
    "E1: rows of version 0.1.0, with and without predictions, make a table by default"
    for file in (ROOT/'tests'/'frozen'/'0.1.0'/'run_results.jsonl', ROOT/'results'/'skin_walkthrough.jsonl'):
        foprokd_table([file])
        assert '|---|' in capsys.readouterr().out


def test_must_show_4_few_images_have_no_interval_that_would_not_cover():
    "Macro F1 and AUROC have one from twenty images a class on, MCC from two"
    rng = np.random.default_rng(0)
    for n, has in ((1, ()), (2, {'mcc'}), (19, {'mcc'}), (20, {'mcc', 'macro_f1', 'macro_auroc'})):
        y = np.repeat(np.arange(3), [40, 30, n])
        s = evaluate(rng.dirichlet([1, 1, 1], len(y)) * .5 + np.eye(3)[y] * .5, y, [9, 4, 2], n_boot=30)
        assert {k for k in ('mcc', 'macro_f1', 'macro_auroc', 'ece') if s[f'{k}_ci']} == set(has)


def test_must_show_4_noise_that_moves_an_estimate_leaves_no_interval():
    "Distances and correlations: an interval around a value that lies beside the truth is not printed"
    rng = np.random.default_rng(0)
    w = rng.multinomial(20, np.full(20, .05), 300) / 20
    y = rng.normal(size=20)
    assert np.isnan(drawn_interval(abs(y.mean() * 0), abs(w @ (y - y.mean())), 20)).all()
    lo, hi = drawn_interval(y.mean() + 9, w @ (y + 9), 20)
    assert lo < y.mean() + 9 < hi
    o = coverage(np.ones((4, 2), bool), np.zeros(4, int))
    assert o['set_size_ci'] is None and o['coverage_ci'][0] < o['coverage_ci'][1] == 1
    t = pd.DataFrame(dict(batch=1, round=np.tile(np.arange(30), 2), model=np.repeat(['a', 'b'], 30), seconds=rng.lognormal(0, .3, 60)))
    r = timing_summary(t, 'a').set_index('model').loc['b']
    assert r.ratio_lower < r.ratio < r.ratio_upper


def test_e10_one_macro_f1():
    "E10: absent classes, predicted or not, one meaning on the training page and in the row"
    rng = np.random.default_rng(0)
    f1 = next(m for m in longtail_metrics() if getattr(m, 'name', '') == 'f1_score')
    for here in ([0, 1, 2, 3], [0, 1], [3], [1, 2, 3]):
        y = rng.choice(here, 50)
        p = rng.dirichlet([1] * 4, 50)
        assert f1(torch.tensor(p.argmax(1)), torch.tensor(y)) == pytest.approx(evaluate(p, y, [4, 3, 2, 1], n_boot=0)['macro_f1'], abs=1e-12)


# Files


def test_b5_reason_and_format(monkeypatch):
    "B5: a student is written in a format that onnxruntime 1.15 reads, and an older one's refusal names its reason"
    said = ('[ONNXRuntimeError] : 1 : FAIL : Load model failed:/onnxruntime_src/onnxruntime/core/graph/model.cc:149 onnxruntime::Model::Model('
            'onnx::ModelProto&&, const PathString&, const IOnnxRuntimeOpSchemaRegistryList*, const onnxruntime::logging::Logger&, '
            'const onnxruntime::ModelOptions&) Unsupported model IR version: 10, max supported IR version: 9\n')
    why = _why_refused(RuntimeError(said))
    assert why.startswith('Unsupported model IR version: 10, max supported IR version: 9: ') and 'pip install -U onnxruntime' in why
    assert 'Protobuf parsing failed' in _why_refused(RuntimeError('[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Protobuf parsing failed.'))
    onnx = pytest.importorskip('onnx')
    from onnx import helper
    f = onnx.TensorProto.FLOAT
    w = onnx.numpy_helper.from_array(np.eye(3, dtype='f'), 'w')
    nodes = [helper.make_node('GlobalAveragePool', ['normalised'], ['m']), helper.make_node('Flatten', ['m'], ['v']), helper.make_node('MatMul', ['v', 'w'], ['raw'])]
    body = helper.make_graph(nodes, 'net', [helper.make_tensor_value_info('normalised', f, ['N', 3, 16, 16])], [helper.make_tensor_value_info('raw', f, ['N', 3])], [w])
    monkeypatch.setattr(graph, 'network_graph', lambda *args: helper.make_model(body, opset_imports=[helper.make_opsetid('', 18)], ir_version=10))
    policy = dict(method='squish', pad_mode='zeros', input_size=[16, 16], model_size=[16, 16], resample=None, mean=[.5] * 3, std=[.2] * 3)
    model = graph.student_graph(None, policy, np.full(3, 1/3))
    assert model.ir_version == 8 and [o.version for o in model.opset_import] == [18]
    onnx.checker.check_model(model, full_check=True)


def test_e11_the_folder_is_made(tmp_path):
    "E11: export_student('new/x.onnx')"
    assert check_folder(tmp_path/'new'/'deep'/'x.onnx').parent.is_dir()
    (tmp_path/'file').touch()
    with pytest.raises(ValueError, match="no folder '.*file' for 'x.onnx', and it cannot be made"): check_folder(tmp_path/'file'/'x.onnx')
