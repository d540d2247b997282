"""Faults found by trying what users of neighbouring tools report: splits of groups on every scikit-learn (A8), files overwritten in place (A9),
one large patient (B9), and the page of what was understood, which is shown before anything is trained."""
import json
import os
import re
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import sklearn
from conftest import ROOT
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold

from foprokd.data import splits
from foprokd.data.files import file_state
from foprokd.data.loaders import OpenImage
from foprokd.data.overview import overview_text
from foprokd.data.resized import ResizedImages
from foprokd.data.scan import scan_images
from foprokd.data.splits import split_by_fold, split_data, split_folds, stratified_folds
from foprokd.measure.rows import append_row, provenance, read_rows
from foprokd.study import jobs
from foprokd.study.config import DataConfig
from foprokd.study.experiment import _begin_checkpoints, weights_digests
from foprokd.study.jobs import pending_runs, run_grid
from foprokd.study.settings import RunConfig, settings_hash
from foprokd.study.sources import describe_data, load_data

FROZEN = Path(__file__).parent/'frozen'/'0.1.0'/'run_results.jsonl'


def table(classes, size=lambda i: 1 + i % 3):
    "A label table without images: class -> number of groups, group number -> images"
    rows = [(f'/x/{c}{g}-{i}.png', c, f'{c}{g}') for c, n in classes.items() for g in range(n) for i in range(size(g))]
    return pd.DataFrame(rows, columns=['image', 'label', 'group'])


def said(f):
    "What a call gives, and its warnings"
    with warnings.catch_warnings(record=True) as w:
        warnings.simplefilter('always')
        res = f()
    return res, ' '.join(str(o.message) for o in w)


# A8

TABLES = dict(case=table(dict(nv=60, mel=30, df=12)), patients=table(dict(a=40, b=20, c=10), lambda i: 1 + i % 7), even=table(dict(a=50, b=25), lambda i: 2),
              steep=table(dict(a=90, b=30, c=12, d=8), lambda i: 1 + i % 2))


@pytest.mark.parametrize('name', TABLES)
def test_a8_every_class_of_many_groups_is_in_every_part(name):
    df = TABLES[name]
    absent = sum(pd.crosstab(s.label, s.split)[['valid', 'test']].eq(0).any(axis=None) for s in (split_data(df, seed=k) for k in range(6)))
    assert absent <= 1, f'{absent} of 6 seeds leave a class out'


def test_a8_shares_of_the_case_are_those_of_the_newest_version():
    "Wherever this runs: scikit-learn 1.4 to 1.7 gave 3 to 7 of df"
    n = [pd.crosstab(s.label, s.split).test.to_dict() for s in (split_data(TABLES['case'], seed=k) for k in range(6))]
    assert n == [dict(df=d, mel=12, nv=24) for d in (5, 5, 4, 5, 5, 5)]


def test_a8_folds_are_scikit_learns_to_the_bit():
    df = TABLES['patients']
    if tuple(map(int, sklearn.__version__.split('.')[:2])) < (1, 8): pytest.skip('this version shuffles counts, not groups')
    for seed in range(2):
        newest = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(df, df.label, df.group)
        for i, (_, held) in enumerate(newest): assert np.array_equal(np.flatnonzero(stratified_folds(df.label, 5, df.group, seed) == i), held)


def test_a8_nobody_lets_scikit_learn_shuffle_groups():
    "Neither a split nor a fold of calibration or of a probe: the whole package is looked through"
    found = [p.name for p in (ROOT/'foprokd').rglob('*.py') if re.search(r'StratifiedGroupKFold\([^)]*shuffle', p.read_text(encoding='utf-8'))]
    assert found == [] and any('StratifiedGroupKFold(' in p.read_text(encoding='utf-8') for p in (ROOT/'foprokd').rglob('splits.py'))
    class Old(StratifiedGroupKFold):
        def __init__(self, n_splits=5, shuffle=False, random_state=None):
            assert not shuffle
            super().__init__(n_splits)
    with mock.patch.object(splits, 'StratifiedGroupKFold', Old): assert split_folds(TABLES['case']).groupby('group').fold.nunique().max() == 1


def test_a8_a_row_names_what_can_move_a_number():
    known = provenance()['versions']
    assert {'python', 'torch', 'torchvision', 'timm', 'fastai', 'numpy', 'scipy', 'pandas', 'scikit-learn', 'pillow', 'foprokd'} <= set(known)
    assert known['scikit-learn'] == sklearn.__version__ and all(v for k, v in known.items() if k != 'accelerate')


# A9

@pytest.fixture
def images(tmp_path, monkeypatch):
    "A folder of class folders with 36 small pictures, and facts of their own"
    monkeypatch.setenv('FOPROKD_CACHE', str(tmp_path/'facts'))
    rng = np.random.default_rng(0)
    for c, n in dict(a=18, b=12, c=6).items():
        (tmp_path/'set'/c).mkdir(parents=True)
        for i in range(n): Image.fromarray(rng.integers(0, 255, (12, 12, 3), np.uint8)).save(tmp_path/'set'/c/f'{i}.bmp')
    return tmp_path/'set'


def overwrite(file, value=0):
    "Other pixels, of the same length and with the time of the old ones"
    at = os.stat(file)
    Image.new('RGB', (12, 12), (value,) * 3).save(file)
    os.utime(file, ns=(at.st_atime_ns, at.st_mtime_ns))
    assert (os.stat(file).st_size, os.stat(file).st_mtime_ns) == (at.st_size, at.st_mtime_ns)


def test_a9_no_memory_of_a_file_outlives_its_content(images, tmp_path):
    "Findings, resized copies, decoded images"
    file = images/'a'/'0.bmp'
    copies, opener = ResizedImages(tmp_path/'copies', 8), OpenImage(8, cache=True)
    copies.build([file], workers=0)
    before = file_state(file), scan_images([file]).sha256[0], copies.path(file), opener(file).clone()
    overwrite(file, 7)
    assert before[0] != file_state(file) and before[1] != scan_images([file]).sha256[0] and before[2] != copies.path(file)
    assert copies.missing([file]) == [str(file)] and (copies.read(file) == 7).all() and (opener(file) == 7).all() and not (before[3] == 7).all()
    OpenImage.forget()


def done(cfg, **more):
    "Write the row that a run would leave"
    digests = weights_digests(cfg)
    row = dict(settings_hash=settings_hash(cfg), seed=0, fold=None, name='', method=cfg.method, settings={}, teacher=dict(ckpt_sha256=digests['teacher']),
               student_ckpt_sha256=digests['student'], **describe_data(load_data(cfg)))
    append_row({k: v for k, v in (row | more).items() if v is not ...}, Path(cfg.out)/'results.jsonl')


def overwrite_image(images, weights): overwrite(images/'c'/'3.bmp')


def swap_images(images, weights):
    "The same contents under each other's names"
    one, two = images/'a'/'0.bmp', images/'b'/'0.bmp'
    held = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(held)


def move_image(images, weights): (images/'a'/'3.bmp').rename(images/'b'/'33.bmp')
def change_weights(images, weights): weights.write_bytes(b'others')


CHANGES = {f.__name__: f for f in (overwrite_image, swap_images, move_image)}


@pytest.mark.parametrize('change', CHANGES)
def test_a9_a_run_is_not_done_when_its_images_have_changed(images, tmp_path, change):
    cfg = RunConfig(data=str(images), method='bsm', out=str(tmp_path/'out'))
    done(cfg)
    assert pending_runs([(cfg, [0])]) == []
    os.utime(images/'a'/'5.bmp')  # looked at again, and the same
    assert pending_runs([(cfg, [0])]) == []
    CHANGES[change](images, None)
    assert len(pending_runs([(cfg, [0])])) == 1


@pytest.mark.parametrize('setting', ['teacher_ckpt', 'teacher', 'student_ckpt'])
def test_a9_a_run_is_not_done_when_weights_have_changed(images, tmp_path, setting):
    weights = tmp_path/'weights.pth'
    weights.write_bytes(b'some')
    cfg = RunConfig(**{'data': str(images), 'method': 'ekd', 'out': str(tmp_path/'out'), setting: str(weights)})
    done(cfg)
    assert pending_runs([(cfg, [0])]) == []
    change_weights(images, weights)
    assert len(pending_runs([(cfg, [0])])) == 1


def test_a9_rows_of_010_count_by_names_and_it_is_said(images, tmp_path):
    cfg = RunConfig(data=str(images), method='bsm', out=str(tmp_path/'out'))
    names = describe_data(load_data(cfg))['split_hash']
    done(cfg, data_hash=names, split_hash=..., student_ckpt_sha256=...)
    with redirect_stdout(StringIO()) as out: run_grid([(cfg, [0])], bar=False)
    assert out.getvalue().startswith('1 of 1 runs are done. 1 of them by rows of version 0.1.0, which did not look into the images: --again')
    (images/'a'/'0.bmp').rename(images/'a'/'00.bmp')  # what 0.1.0 saw is seen still
    assert len(pending_runs([(cfg, [0])])) == 1
    row = read_rows(FROZEN)[0]
    assert 'split_hash' not in row and jobs._same_files(row, dict(split_hash=row['data_hash'], data_hash='x')) and not jobs._same_files(row, dict(split_hash='y'))


def test_a9_rows_whose_data_are_gone_are_kept_with_a_word(images, tmp_path):
    cfg = RunConfig(data=str(images), method='bsm', out=str(tmp_path/'out'))
    done(cfg)
    images.rename(tmp_path/'elsewhere')
    left, text = said(lambda: pending_runs([(cfg, [0])]))
    assert left == [] and 'cannot be read now' in text


def test_a9_hashes_follow_contents_and_nothing_else(images, tmp_path):
    df = load_data(DataConfig(str(images)))
    was = describe_data(df)
    moved = df.assign(image=[f.replace(str(images), str(tmp_path/'moved')) for f in df.image])
    images.rename(tmp_path/'moved')
    assert describe_data(moved) == was  # on a different disk, say
    overwrite(moved.image[0])
    assert describe_data(moved)['split_hash'] == was['split_hash'] and describe_data(moved)['data_hash'] != was['data_hash']


def test_a9_checkpoints_of_other_images_are_not_gone_on_with(tmp_path):
    folder, now = tmp_path/'checkpoints', dict(data_hash='a', student=None)
    (folder/'run').mkdir(parents=True)  # of 0.1.0, which wrote no note: gone on with
    assert said(lambda: _begin_checkpoints(folder, now))[1] == '' and (folder/'run').exists()
    assert said(lambda: _begin_checkpoints(folder, now))[1] == '' and (folder/'run').exists()
    assert 'begins anew' in said(lambda: _begin_checkpoints(folder, now | dict(data_hash='b')))[1] and not (folder/'run').exists()


# B9

def crowded(n, rest=140, label=lambda i: 'aab'[i % 3]):
    "A table in which one patient has `n` images, and others two each"
    df = pd.DataFrame(dict(image=[f'/x/{i}.png' for i in range(n + rest)], label=[label(i) for i in range(n + rest)]))
    return df.assign(group=['large'] * n + [f'p{i // 2}' for i in range(rest)])


@pytest.mark.parametrize('n,rest', [(60, 140), (45, 55), (80, 60)])
def test_b9_seeds_move_a_large_patient_and_what_is_far_off_is_said(n, rest):
    df, where = crowded(n, rest), set()
    for seed in range(10):
        cut, text = said(lambda: split_data(df, seed=seed))
        part = cut.split[0]
        where.add(part)
        share = (cut.split == 'test').mean()
        assert ("'large' alone has" in text and f'{n} ' in text.replace('.', ' ')) == (part != 'train'), (seed, text)
        assert abs(share - .2) < .07 or 'The test part has' in text, (seed, share)
        assert cut.groupby('group').split.nunique().max() == 1
    assert {'train', 'test'} <= where
    assert split_data(df, seed=3).equals(split_data(df, seed=3))


def test_b9_a_patient_with_most_of_a_class_moves_too():
    df = pd.concat([crowded(14, 6, lambda i: 'rare'), table(dict(a=110, b=110), lambda i: 1)], ignore_index=True)
    found = [said(lambda: split_data(df, seed=s)) for s in range(6)]
    assert len({cut.split[0] for cut, _ in found}) > 1
    for cut, text in found: assert ("'large' alone has 14" in text) == (cut.split[0] != 'train') and 'rare' in set(cut.label[cut.split == 'test'])
    assert any("14 of 20 images of the class 'rare', 70% where 20% were asked" in text for _, text in found)


@pytest.mark.parametrize('name', TABLES)
def test_b9_ordinary_tables_are_cut_in_silence(name):
    for seed in range(1):
        for kw in ({}, dict(valid=.3, test=.3), dict(valid=.1, test=.1)): assert said(lambda: split_data(TABLES[name], seed=seed, **kw))[1] == ''
        assert said(lambda: split_data(TABLES[name].drop(columns='group'), seed=seed))[1] == ''
    assert said(lambda: split_folds(TABLES[name], 5))[1] == ''


def test_b9_folds_and_shares_that_cannot_be():
    assert "the group 'large' alone has 60" in said(lambda: split_folds(crowded(60), 5))[1]
    folds = said(lambda: split_folds(crowded(60), 5))[0]
    assert {said(lambda: split_by_fold(folds, 1, seed=s))[0].split[0] for s in range(12)} >= {'train', 'valid'}
    assert 'The valid part has 50 of 200 images, 25% where 50% were asked. Ask for smaller' in said(lambda: split_data(crowded(0, 200).drop(columns='group'), valid=.5, test=.5))[1]


# The page

def test_page_says_what_a_person_would_check(images):
    file = images/'a'/'copy.bmp'
    file.write_bytes((images/'a'/'0.bmp').read_bytes())
    df = load_data(DataConfig(str(images), imbalance=2))
    page = overview_text(df)
    assert len(page.splitlines()) <= 15
    page = ' '.join(page.split())
    for words in ('in 3 classes', '2 of them repeat (sets: 1', '20% asked', '15% asked', 'cut by image with seed 0', '2 asked', 'head', 'tail'):
        assert words in page, words
    for c, n in df.label.value_counts().items(): assert f"{c} {'+'.join(str(((df.label == c) & (df.split == p)).sum()) for p in ('train', 'valid', 'test'))}" in page, n


@pytest.mark.parametrize('name', [*TABLES, 'crowded', 'bare', 'many'])
def test_page_is_short_for_all_kinds_of_tables(name):
    bare = TABLES['case'][['image', 'label']]
    df = TABLES.get(name, dict(crowded=crowded(60), bare=bare, many=table({f'a class with a long name {i}': 6 for i in range(60)})).get(name))
    df.attrs = dict(understood=dict(kind='table', columns=dict(image='image_id', label='dx', group='lesion_id'), cleaned={'nv ': 'nv'}, left_out=3, notes=['One note.']),
                    dropped={'truncated': 2})
    cut = said(lambda: split_data(df))[0]
    page = overview_text(cut)
    assert len(page.splitlines()) <= (26 if name == 'many' else 16) and max(map(len, page.splitlines())) <= 100
    page = ' '.join(page.split())
    for words in ('table', 'label from dx', 'truncated 2', 'no image by extension 3', "'nv ' as 'nv'", 'One note.', 'asked'): assert words in page, words
    assert ('groups' in page) == ('group' in df)
    df.attrs = {}


def test_page_is_printed_once_per_data_set_before_anything_is_trained(images, tmp_path):
    kw = dict(data=str(images), out=str(tmp_path/'out'), student='test_resnet', size=32, bs=8, distill=1)
    grids = {'one': ([(RunConfig(method='bsm', **kw), [0])], 1, 0), 'seeds': ([(RunConfig(method=m, **kw), [0, 1]) for m in ('bsm', 'ce', 'bsm')], 1, 0),
             'beside': ([(RunConfig(method=m, **kw), [0]) for m in ('bsm', 'ce')], 2, 0), 'folds': ([(RunConfig(method=m, fold='all', n_folds=3, **kw), [0]) for m in ('bsm', 'ce')], 1, 2),
             'two': ([(RunConfig(method='bsm', **kw), [0]), (RunConfig(method='bsm', **kw | dict(split_seed=1)), [0])], 1, 0)}
    for name, (grid, n, folds) in grids.items():
        text = []
        def trained(*args): text.append(out.getvalue()) or 0; return {}
        with redirect_stdout(StringIO()) as out, mock.patch.object(jobs, '_run_here', trained), mock.patch.object(jobs, '_run_beside', trained), \
                mock.patch.object(jobs, 'try_runs', lambda *a: None):
            run_grid(grid, jobs=n, bar=False)
        assert text[0].count('Understood of') == (2 if name == 'two' else 1), name
        assert text[0].count('\n  fold ') == folds, text[0]


def test_page_is_shown_by_the_command_on_data(images, tmp_path):
    from foprokd.study.commands import foprokd_data
    with redirect_stdout(StringIO()) as out, mock.patch('foprokd.study.data_page.data_page', lambda *a, **k: 'page.html'):
        foprokd_data(data=str(images), out=str(tmp_path/'out'))
    assert f'Understood of {images}' in out.getvalue() and 'tail' in out.getvalue()


@pytest.mark.parametrize('kw', [dict(valid=.3), dict(test=.3), dict(split_seed=3), dict(n_folds=7), dict(profile='pareto'), dict(fold=1, test=.3)])
def test_page_settings_without_effect_are_refused(images, tmp_path, kw):
    df = load_data(DataConfig(str(images)))
    df.to_csv(tmp_path/'given.csv', index=False)
    with pytest.raises(ValueError, match='has no effect'): load_data(DataConfig(str(tmp_path/'given.csv'), **kw))
    for fine in (dict(imbalance=2, split_seed=3, profile='pareto'), dict(fold=1, n_folds=3, valid=.2, split_seed=2)): said(lambda: load_data(DataConfig(str(tmp_path/'given.csv'), **fine)))
    assert json.dumps(describe_data(df))
