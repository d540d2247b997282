"Every data set and every shipped weight has a card, and the numbers in the cards are the code's."
import importlib.util
import os
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from conftest import ROOT
from foprokd.data.datasets import DATASETS
from foprokd.data.isic import ISIC_CLASSES, ISIC_COUNTS, isic_lt_counts
from foprokd.data.kvasir import HYPER_KVASIR_COUNTS, HYPER_KVASIR_NAMES, hyper_kvasir
from foprokd.data.longtail import class_groups
from foprokd.data.medmnist import MEDMNIST
from foprokd.data.synth import demo_frame

CARDS = ROOT/'data_cards'
TEACHER = ROOT/'foprokd/weights/embedded_teacher.safetensors'
DATA = Path(os.environ.get('FOPROKD_DATA', ''), 'hyper_kvasir')


def read(name):
    "Text of a card; fails if there is none"
    return (CARDS/f'{name}.md').read_text(encoding='utf-8')


def tables(text):
    "The Markdown tables of a card, each a list of rows, each a dict from column to cell; the first column names the row"
    res, head = [], None
    for line in text.splitlines() + ['']:
        cells = [c.strip() for c in line.strip().strip('|').split('|')] if line.startswith('|') else None
        if not cells: head = None
        elif head is None: head = cells; res.append([])
        elif not all(re.fullmatch(':?-+:?', c) for c in cells): res[-1].append(dict(zip(head, cells, strict=True)))
    return res


def counted(text, column):
    "The table of a card that has `column`, as {row name: row}; fails unless there is exactly one"
    found = [t for t in tables(text) if t and column in t[0]]
    assert len(found) == 1, f'{len(found)} tables with a column {column!r}'
    names = [next(iter(r.values())) for r in found[0]]
    assert len(set(names)) == len(names), f'a row is there twice: {names}'
    return dict(zip(names, found[0]))


def compare(text, column, expected):
    "Sentences about each cell of a card's table that is not what `expected`, {row: {column: value}}, says"
    table = counted(text, column)
    res = [f'row {r!r} is not in both' for r in sorted(set(table) ^ set(expected))]
    return res + [f'{r}, {c}: {table[r].get(c)!r} instead of {str(v)!r}' for r in expected if r in table
                  for c, v in expected[r].items() if table[r].get(c) != str(v)]


# What each card's tables have to say, computed from the code.

def isic():
    lt = {r: isic_lt_counts(r) for r in (100, 200, 500)}
    rows = {c: {'finding': i, 'ISIC-2019': ISIC_COUNTS[c], 'valid': 50, 'test': 100} | {f'train 1:{r}': n[i] for r, n in lt.items()}
            for i, c in enumerate(ISIC_CLASSES)}
    rows['all'] = {'ISIC-2019': sum(ISIC_COUNTS.values()), 'valid': 400, 'test': 800} | {f'train 1:{r}': n.sum() for r, n in lt.items()}
    return [('ISIC-2019', rows | {'true ratio': {f'train 1:{r}': round(n.max() / n.min()) for r, n in lt.items()}})]


def kvasir():
    groups = class_groups(list(HYPER_KVASIR_COUNTS.values()), (70, 700))
    group = {list(HYPER_KVASIR_COUNTS)[i]: k for k, v in groups.items() for i in v}
    rows = {c: {'name in the fold file': HYPER_KVASIR_NAMES[c], 'images': n, 'group on all images': group[c]} for c, n in HYPER_KVASIR_COUNTS.items()}
    return [('group on all images', rows | {'all': {'images': sum(HYPER_KVASIR_COUNTS.values())}})]


def medmnist():
    return [('classes', {f: {**n, 'licence': 'CC BY-NC 4.0' if f == 'dermamnist' else 'CC BY 4.0'} for f, n in MEDMNIST.items()})]


def demo():
    df = demo_frame()
    n = {c: {p: int(((df.label == c) & (df.split == p)).sum()) for p in ('train', 'valid', 'test')} for c in df.label.unique()}
    return [('valid', n | {'all': df.split.value_counts().to_dict()})]


EXPECTED = {'isic2019_lt': isic, 'hyper_kvasir': kvasir, 'medmnist': medmnist, 'synthetic_demo': demo}


def problems(name, text):
    "What is wrong in the tables of a card"
    return [o for column, expected in EXPECTED[name]() for o in compare(text, column, expected)]


def test_every_set_has_a_card_and_every_card_is_checked():
    assert set(DATASETS) <= set(EXPECTED), 'a data set without a card, or without a check of it'
    assert {p.stem for p in CARDS.glob('*.md')} == set(EXPECTED) | {p.stem for p in TEACHER.parent.glob('*.safetensors')}


@pytest.mark.parametrize('name', EXPECTED)
def test_the_tables_say_what_the_code_says(name):
    assert problems(name, read(name)) == []


@pytest.mark.parametrize('name', EXPECTED)
def test_a_doctored_card_is_caught(name):
    "Each number in a checked table is raised by one, one at a time; a lost row and a doubled one are caught, too"
    lines = read(name).splitlines()
    rows = [i for i, o in enumerate(lines) if o.startswith('|') and any(o.split('|')[1].strip() in e for _, e in EXPECTED[name]())]
    done = 0
    for i in rows:
        cells = lines[i].split('|')
        for j in range(2, len(cells) - 1):
            if not cells[j].strip().isdigit(): continue
            wrong = [*cells[:j], f' {int(cells[j]) + 1} ', *cells[j + 1:]]
            assert problems(name, '\n'.join([*lines[:i], '|'.join(wrong), *lines[i + 1:]])), lines[i]
            done += 1
    assert done >= len(rows) >= 9
    assert problems(name, '\n'.join(lines[:rows[0]] + lines[rows[0] + 1:]))
    with pytest.raises(AssertionError): problems(name, '\n'.join(lines[:rows[0]] + lines[rows[0]:rows[0] + 1] + lines[rows[0]:]))
    with pytest.raises(AssertionError): problems(name, read('embedded_teacher'))


@pytest.mark.parametrize('name', DATASETS)
def test_what_a_card_must_say(name):
    text, d = read(name), DATASETS[name]
    for licence in re.findall(r'CC BY[-A-Z]* 4\.0', d['licence']): assert licence in text
    for protocol in d['protocols']: assert f'`{protocol}`' in text
    for fold in d['folds']: assert re.search(rf'\b{fold}\b', text)
    for part in ('How to get it', 'Known leakage', 'Known biases', '## Use', 'Citation', 'What was checked'): assert part in text, part
    assert d['reader'].__name__ in text and 'edical device' in text and 'ot intended' in text
    assert not re.search(r'(?<![\w/.])/(?:home|root|tmp|work)/', text), 'a path of a machine'


def test_the_licences_and_counts_of_medmnist_are_the_packages():
    info = pytest.importorskip('medmnist').INFO
    table = counted(read('medmnist'), 'classes')
    for flag, row in table.items():
        said = (row['licence'], int(row['classes']), *(int(row[p]) for p in ('train', 'valid', 'test')))
        assert said == (info[flag]['license'], len(info[flag]['label']), *(info[flag]['n_samples'][p] for p in ('train', 'val', 'test')))
        assert ('RGB' in row['images']) == (info[flag]['n_channels'] == 3)


@pytest.mark.skipif(not DATA.is_dir(), reason='needs FOPROKD_DATA')
def test_the_folds_of_hyper_kvasir(tmp_path):
    "The table of folds, and the groups of its text, from the publisher's fold file; an image is an empty file"
    import pandas as pd
    names = {v: k for k, v in HYPER_KVASIR_NAMES.items()}
    for c in HYPER_KVASIR_COUNTS: (tmp_path/'labeled-images'/c).mkdir(parents=True)
    (tmp_path/'one').touch()
    for r in pd.read_csv(DATA/'5_fold_split.csv', sep=';').itertuples():
        os.link(tmp_path/'one', tmp_path/'labeled-images'/names[r[2]]/r[1])
    text, expected = read('hyper_kvasir'), {}
    for k in DATASETS['hyper_kvasir']['folds']:
        about = hyper_kvasir(tmp_path, k, splits=DATA).attrs['about']
        n = about['counts']
        expected[str(k)] = {p: sum(n[p].values()) for p in n} | {
            'true ratio': round(about['true_ratio']), 'hemorrhoids in training': n['train']['hemorrhoids']}
        for g in about['class_groups'].values(): assert '/'.join(str(len(g[o])) for o in ('head', 'medium', 'tail')) + ' ' in text
    assert compare(text, 'hemorrhoids in training', expected) == []
    assert compare(text, 'hemorrhoids in training', {**expected, '0': expected['4']})


def test_the_embedded_teacher_is_the_one_of_its_card():
    text, tensors = read('embedded_teacher'), load_file(TEACHER)
    classes, features = tensors['fc.weight'].shape
    weights = sum(np.size(v) for k, v in tensors.items() if 'running' not in k and 'num_batches' not in k)
    assert TEACHER.name in text
    for fact in (f'{features} features', f'{classes}-class head', f'{weights / 1e6:.2f} M parameters',
                 f'{TEACHER.stat().st_size / 2**20:.1f} MB'): assert fact in text, fact


def test_the_parser_reads_markdown():
    text = 'Words.\n\n| a | b |\n|---|:-:|\n| x | 1 |\n| y | 2 |\n\n| c |\n|---|\n| z |\n'
    assert tables(text) == [[{'a': 'x', 'b': '1'}, {'a': 'y', 'b': '2'}], [{'c': 'z'}]]
    assert counted(text, 'b')['y'] == {'a': 'y', 'b': '2'}
    assert compare(text, 'b', {'x': {'b': 1}, 'y': {'b': 3}}) == ["y, b: '2' instead of '3'"]
    with pytest.raises(ValueError): tables('| a | b |\n|---|---|\n| x |\n')


def test_medmnist_is_an_extra():
    "The module imports without the package `medmnist`"
    source = Path(importlib.util.find_spec('foprokd.data.medmnist').origin).read_text(encoding='utf-8')
    assert not re.search(r'^(import|from) medmnist', source, re.M)
