"Faults that readers of folders, tables and files had (A10, A11, A12, B4, B8, E11 of the list of faults), each kind with several examples."
import os
import shutil
import unicodedata
import warnings
import zipfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from foprokd.data.datasets import read_dataset, similar_set
from foprokd.data.kvasir import HYPER_KVASIR_COUNTS
from foprokd.data.labels import check_labels, read_labels
from foprokd.data.scan import inspect_file, scan_images, usable_rows
from foprokd.data.splits import check_split, split_data, split_folds
from foprokd.data.understood import understood, understood_text
from foprokd.study.config import DataConfig, check_used
from foprokd.study.sources import load_data

IDS = [f'ISIC_{i:07d}' for i in range(12)]
LATER = [f'ISIC_1{i:06d}' for i in range(6)]
DX = ['nv', 'mel', 'bkl'] * 4


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('FOPROKD_CACHE', str(tmp_path/'facts'))


def put(root, folder, names=IDS, ext='.jpg'):
    "Small images, each of its own gray"
    (root/folder).mkdir(parents=True, exist_ok=True)
    for n in names: Image.new('RGB', (8, 8), (abs(hash(n)) % 200,) * 3).save(root/folder/f'{n}{ext}')


def classes(source, **kwargs):
    "Class -> images"
    return read_labels(source, workers=0, **kwargs).label.value_counts().to_dict()


def refused(words, source, **kwargs):
    "The sentence with which reading is refused"
    with pytest.raises(ValueError) as e: read_labels(source, workers=0, **kwargs)
    assert words in str(e.value), str(e.value)
    assert '\n' not in str(e.value)
    return str(e.value)


# A10: containers

TREES = {
    'plain': ['{c}'],
    'in images': ['images/{c}'],
    'two containers': ['Dataset/data/{c}'],
    'sets': ['training_set/{c}', 'test_set/{c}'],
    'parts in a container': ['images/Train/{c}', 'images/Val/{c}', 'images/testing/{c}'],
    'named parts': ['ISIC_Training_Input/{c}', 'ISIC_Test_Input/{c}'],
    'parts below classes': ['{c}/train', '{c}/test'],
    'containers below classes': ['{c}/images'],
    'numbered containers': ['images_1/{c}', 'images_2/{c}'],
    'folds': ['fold_1/{c}', 'fold_2/{c}', 'fold_3/{c}'],
    'parts then containers': ['train/images/{c}', 'test/images/{c}']}


@pytest.mark.parametrize('name', TREES)
def test_a10_containers_are_no_classes(tmp_path, name):
    for i, folder in enumerate(TREES[name]):
        for c in ('nv', 'mel'): put(tmp_path, folder.format(c=c), [f'{c}{i}{k}' for k in range(3)])
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        df = read_labels(tmp_path, workers=0)
    n = 3 * len(TREES[name])
    assert df.label.value_counts().to_dict() == dict(nv=n, mel=n)
    said = 'rain' in ''.join(TREES[name])
    assert ('split' in df) == said
    facts = understood(df)
    assert facts['classes'] == dict(mel=n, nv=n) and facts['kind'] == 'class folders'
    assert set(facts['parts']) == (set(df.split) if said else set())
    assert bool(facts['containers'] or facts['parts_from']) == (name not in ('plain', 'containers below classes'))


@pytest.mark.parametrize('folders, words', [
    (['colon/polyp', 'colon/cecum', 'stomach/pylorus'], 'as 2 classes by the outer ones'),
    (['nv/p1', 'nv/p2', 'mel/p3'], 'as 3 by the inner ones'),
    (['train/colon/a', 'train/colon/b', 'test/stomach/c'], 'two ways'),
    (['train/a', 'test/a', 'b'], "lies beside the part"),
    (['train/a', 'train_aug/a'], "'train_aug' lies beside the part 'train'"),
    (['flu_train', 'flu_test', 'cold_train', 'cold_test'], 'say a part and something else'),
    (['images', 'masks'], "'images' is called like a container"),
    (['HAM10000_images_part_1', 'HAM10000_images_part_2'], 'called like a container'),
    (['images'], 'lies in no class folder'),
    (['train'], 'lies in no class folder'),
    (['train/images', 'test/images'], 'lies in no class folder')])
def test_a10_what_may_be_read_in_two_ways_is_refused(tmp_path, folders, words):
    for i, folder in enumerate(folders): put(tmp_path, folder, [f'{i}{k}' for k in range(2)])
    refused(words, tmp_path)


def test_a10_the_two_readings_can_be_chosen(tmp_path):
    for folder in ('nv/p1', 'nv/p2', 'mel/p3'): put(tmp_path, folder, [folder[-2:]])
    assert classes(tmp_path, class_folder='outer') == dict(nv=2, mel=1)
    assert classes(tmp_path, class_folder='inner') == dict(p1=1, p2=1, p3=1)


@pytest.mark.parametrize('names', [['nv', 'mel'], ['grade1', 'grade2'], ['1', '2'], ['normal images', 'polyp images'], ['positive test', 'negative test'],
                                   ['contest', 'train_station'], list(HYPER_KVASIR_COUNTS)])
def test_a10_names_of_classes_stay_classes(tmp_path, names):
    "No false alarm: folders that hold images and are called like nothing else"
    for c in names: put(tmp_path, c, [f'{c}{i}' for i in range(2)])
    assert classes(tmp_path) == {c: 2 for c in names}


def hot(ids, **more):
    "A ground truth of ISIC"
    return pd.DataFrame({'image': ids, **{c: [float(i % 3 == k) for i in range(len(ids))] for k, c in enumerate(('MEL', 'NV', 'BCC'))}, 'DF': 0., **more})


def ham(root):
    for k in (0, 1): put(root, f'HAM10000_images_part_{k + 1}', IDS[6 * k:6 * k + 6])
    pd.DataFrame(dict(lesion_id=[f'HAM_{i // 2}' for i in range(12)], image_id=IDS, dx=DX, age=50)).to_csv(root/'HAM10000_metadata.csv', index=False)
    pd.DataFrame(np.zeros((12, 65), int)).to_csv(root/'hmnist_8_8_L.csv', index=False)
    return dict(n=12, classes={'nv', 'mel', 'bkl'}, groups=6, parts={})


def ham_whole(root):
    "With the segmentations and the test images beside"
    put(root, 'HAM10000_segmentations_lesion_tschandl', [f'{i}_segmentation' for i in IDS], '.png')
    put(root, 'ISIC2018_Task3_Test_Images', LATER)
    return ham(root)


def isic2018(root):
    put(root, 'ISIC2018_Task3_Training_Input')
    (root/'ISIC2018_Task3_Training_GroundTruth').mkdir()
    hot(IDS).to_csv(root/'ISIC2018_Task3_Training_GroundTruth'/'ISIC2018_Task3_Training_GroundTruth.csv', index=False)
    pd.DataFrame(dict(image=IDS, lesion_id=[f'L{i // 3}' for i in range(12)])).to_csv(root/'ISIC2018_Task3_Training_LesionGroupings.csv', index=False)
    return dict(n=12, classes={'MEL', 'NV', 'BCC'}, groups=4, parts={})


def isic2018_parts(root):
    put(root, 'ISIC2018_Task3_Validation_Input', LATER)
    hot(LATER).to_csv(root/'ISIC2018_Task3_Validation_GroundTruth.csv', index=False)
    return isic2018(root) | dict(n=18, parts=dict(train=12, valid=6))


def isic2019(root):
    put(root, 'ISIC_2019_Training_Input/ISIC_2019_Training_Input')
    hot(IDS, UNK=0.).to_csv(root/'ISIC_2019_Training_GroundTruth.csv', index=False)
    lesions = [None, *(f'L{i // 2}' for i in range(1, 12))]
    pd.DataFrame(dict(image=IDS, age_approx=50, lesion_id=lesions)).to_csv(root/'ISIC_2019_Training_Metadata.csv', index=False)
    return dict(n=12, classes={'MEL', 'NV', 'BCC'}, groups=6, parts={})


def isic2020(root, images='train', name='ISIC_2020_Training_GroundTruth.csv'):
    put(root, images)
    df = pd.DataFrame(dict(image_name=IDS, patient_id=[f'IP_{i // 3}' for i in range(12)], sex='male', diagnosis='unknown'))
    df.assign(benign_malignant=['benign', 'malignant', 'benign'] * 4, target=[0, 1, 0] * 4).to_csv(root/name, index=False)
    return dict(n=12, classes={'benign', 'malignant'}, groups=4, parts={})


def isic2020_kaggle(root):
    put(root, 'jpeg/test', LATER)
    pd.DataFrame(dict(image_name=LATER, patient_id='IP')).to_csv(root/'test.csv', index=False)
    pd.DataFrame(dict(image_name=LATER, target=0)).to_csv(root/'sample_submission.csv', index=False)
    return isic2020(root, 'jpeg/train', 'train.csv')


def aptos(root):
    put(root, 'train_images', ext='.png')
    put(root, 'test_images', LATER, '.png')
    pd.DataFrame(dict(id_code=IDS, diagnosis=[i % 5 for i in range(12)])).to_csv(root/'train.csv', index=False)
    pd.DataFrame(dict(id_code=LATER)).to_csv(root/'test.csv', index=False)
    pd.DataFrame(dict(id_code=LATER, diagnosis=0)).to_csv(root/'sample_submission.csv', index=False)
    return dict(n=12, classes=set('01234'), groups=None, parts={})


def kvasir(root):
    for folder in ('lower-gi-tract/anatomical-landmarks/cecum', 'lower-gi-tract/quality-of-mucosal-views/bbps-0-1', 'upper-gi-tract/pathological-findings/barretts'):
        put(root, f'labeled-images/{folder}', [f'{folder[-5:]}{i}' for i in range(4)])
    (root/'labeled-images'/'image-labels.csv').write_text('Video file,Organ,Finding,Classification\na,Lower GI,cecum,anatomical-landmarks\n')
    return dict(n=12, classes={'cecum', 'bbps-0-1', 'barretts'}, groups=None, parts={})


@pytest.mark.parametrize('make', [ham, ham_whole, isic2018, isic2018_parts, isic2019, isic2020, isic2020_kaggle, aptos, kvasir])
def test_a10_public_sets_open_as_they_are_unpacked(tmp_path, make):
    want = make(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        df = read_labels(tmp_path, workers=0)
    facts = understood(df)
    assert len(df) == want['n'] and set(facts['classes']) == want['classes'] and facts['parts'] == want['parts']
    assert (facts['groups'] or {}).get('n') == want['groups']
    assert understood_text(df).splitlines()[0] == facts['structure'] != ''
    assert all(os.path.isfile(f) for f in df.image)


def test_a10_class_folders_and_a_table_that_differ_are_refused(tmp_path):
    put(tmp_path, 'benign', IDS[:6])
    put(tmp_path, 'malignant', IDS[6:])
    table = pd.DataFrame(dict(image=IDS, label=DX))
    table.to_csv(tmp_path/'labels_of_all.csv', index=False)
    refused('2 class folders', tmp_path)
    assert classes(tmp_path, class_folder='outer') == dict(benign=6, malignant=6)
    assert classes(tmp_path/'labels_of_all.csv') == dict(nv=4, mel=4, bkl=4)
    table.assign(label=['benign'] * 6 + ['malignant'] * 6)[:8].to_csv(tmp_path/'labels_of_all.csv', index=False)
    refused('8 rows', tmp_path) # the same labels, but fewer images


@pytest.mark.parametrize('kwargs, words', [
    (dict(image_col='file'), '--image-col'), (dict(label_col='dx'), '--label-col'), (dict(group_col='patient'), '--group-col'),
    (dict(root='.'), '--data-root'), (dict(class_folder='outer'), '--class-folder')])
def test_a10_what_has_no_effect_on_class_folders_is_refused(tmp_path, kwargs, words):
    for c in ('nv', 'mel'): put(tmp_path, c, [c])
    refused(words, tmp_path, **kwargs)


@pytest.mark.parametrize('kwargs, words', [
    (dict(image_col='file'), 'image_col'), (dict(label_col='dx'), 'label_col'), (dict(group_col='patient'), 'group_col'), (dict(data_root='.'), 'data_root'),
    (dict(class_folder='inner'), 'class_folder'), (dict(missing='drop'), 'missing'), (dict(data='.', missing='drop'), '`bad`'), (dict(data='.', n_folds=3), '`fold`'),
    (dict(data='.', fold='0', test=.3), 'test=0.3'), (dict(data='.', profile='pareto'), 'imbalance'), (dict(data='.', splits='x'), 'published'),
    (dict(data='hyper_kvasir', data_root='.', class_folder='outer'), 'class_folder')])
def test_a10_flags_without_effect_are_errors(kwargs, words):
    cfg = DataConfig(**kwargs) # the row of an old run may hold it
    with pytest.raises(ValueError, match=f'no effect.*{words}|{words}.*no effect'): check_used(kwargs, [cfg])
    with pytest.raises(ValueError, match=f'no effect.*{words}|{words}.*no effect'): load_data(cfg)


def test_a10_flags_with_an_effect_are_none():
    for kwargs in (dict(data='.', image_col='file', label_col='dx', group_col='p', data_root='.'), dict(data='.', fold='all', n_folds=3), dict(data='.', class_folder='outer'),
                   dict(imbalance=10, profile='pareto', n_max=40), dict(data='hyper_kvasir', data_root='.', missing='drop', splits='.'), dict(data='.', valid=.2, test=.3)):
        check_used(kwargs, [DataConfig(**kwargs)])


# A11: texts

@pytest.fixture
def labelled(tmp_path):
    "A folder with twelve images, and a function that reads them with these labels, groups and parts"
    put(tmp_path, 'im')
    def read(label=DX, **columns):
        pd.DataFrame(dict(image=[f'im/{i}.jpg' for i in IDS], label=label, **columns)).to_csv(tmp_path/'labels.csv', index=False)
        return read_labels(tmp_path, workers=0, group_col='group' if 'group' in columns else None)
    return read


@pytest.mark.parametrize('odd, plain', [('nv ', 'nv'), ('\u00a0nv', 'nv'), ('n\u0308v', 'n\u0308v'), ('ne\u0301vus', 'n\u00e9vus'), ('a\u00a0b', 'a b'), ('\ufeffnv', 'nv'), ('\tnv', 'nv')])
def test_a11_what_nobody_sees_is_taken_away(labelled, odd, plain):
    other = ['mel'] * 6
    df = labelled([odd, plain] * 3 + other, group=[odd, plain] * 6)
    plain = unicodedata.normalize('NFC', plain)
    assert df.label.value_counts().to_dict() == {plain: 6, 'mel': 6} and df.group.nunique() == 1
    if odd != plain: assert understood(df)['cleaned'][odd] == plain


@pytest.mark.parametrize('a, b', [('nv', 'NV'), ('1', '1.0'), ('1', '01'), ('ak iec', 'ak_iec'), ('ak-iec', 'akiec'), ('Grade 2', 'grade-2'), ('Straße', 'strasse')])
def test_a11_nearly_equal_names_are_refused_with_both(labelled, a, b):
    for kind, columns in (('labels', dict(label=[a, b] * 6)), ('groups', dict(group=[a, b] * 6))):
        with pytest.raises(ValueError) as e: labelled(**columns)
        assert kind in str(e.value) and repr(a) in str(e.value) and repr(b) in str(e.value)
    frame = pd.DataFrame(dict(image=IDS, label=[a, b] * 6))
    for f in (check_labels, split_data, split_folds): # a table made by hand, too
        with pytest.raises(ValueError, match='nearly equal'): f(frame)


@pytest.mark.parametrize('names', [('1-1', '11'), ('-1', '1'), ('1.5', '15'), ('HER2', 'HER2-'), ('p1', 'p11'), ('1', '10'), ('a', 'ä'), ('grade -1', 'grade 1'),
                                   ('1.2.840.1', '1.2.840.10'), tuple(HYPER_KVASIR_COUNTS)[:2]])
def test_a11_different_names_are_left_alone(labelled, names):
    assert set(labelled([*names] * 6, group=[*names] * 6).label) == set(names)
    check_labels(pd.DataFrame(dict(image=[*HYPER_KVASIR_COUNTS], label=[*HYPER_KVASIR_COUNTS])), 'label')


def test_a11_patients_do_not_cross_by_a_space(labelled):
    "21 patients, some written with a space: no part shares one"
    df = labelled(group=[f'p{i // 2}' + ' ' * (i % 2) for i in range(12)])
    assert df.group.nunique() == 6
    folds = split_folds(df.assign(label=['a', 'b'] * 6), 3)
    assert folds.groupby('group').fold.nunique().max() == 1
    crossing = df.assign(split=['train', 'test'] * 6, group=['p1', 'P1'] * 6)
    with pytest.raises(ValueError, match='nearly equal'): check_split(crossing)
    with pytest.raises(ValueError, match='nearly equal'): split_data(df.drop(columns='group').assign(pat=['p1', 'P1'] * 6), group_col='pat')


def test_a11_parts_by_any_of_their_names(labelled):
    parts = ['train', 'Training ', 'TRAIN', 'train set', 'val', 'Validation', 'dev', 'valid\u00a0', 'test', 'Testing', 'test_set', 'TEST']
    assert labelled(split=parts).split.tolist() == ['train'] * 4 + ['valid'] * 4 + ['test'] * 4
    with pytest.raises(ValueError, match="holds 'later'"): labelled(split=parts[:-1] + ['later'])
    with pytest.raises(ValueError, match="value for 'label'"): labelled(['  ', *DX[1:]])


def test_a11_folders_of_a_mac_and_of_windows_are_one_class(tmp_path):
    put(tmp_path, 'test/n\u00e9vus', IDS[:3])
    put(tmp_path, 'train/ne\u0301vus', IDS[3:6])
    put(tmp_path, 'test/mel', IDS[6:])
    put(tmp_path, 'train/mel', LATER)
    assert classes(tmp_path) == {'n\u00e9vus': 6, 'mel': 12}


# A12: what cannot be listed

def no_entry(*names):
    "The system's answer to somebody who may not list these folders (tests may run for a user who may)"
    scandir = os.scandir
    def play(path='.'):
        if os.path.basename(os.fspath(path)) in names: raise PermissionError(13, 'Permission denied', str(path))
        return scandir(path)
    return patch('os.scandir', play)


def test_a12_a_class_that_cannot_be_listed_is_named(tmp_path):
    for c in ('nv', 'mel', 'df'): put(tmp_path, f'train/{c}', [c])
    for name in ('df', 'train'):
        with no_entry(name): assert name in refused('cannot be listed (Permission denied)', tmp_path)
    assert len(classes(tmp_path)) == 3


def test_a12_links_that_lead_nowhere_and_empty_folders_are_named(tmp_path):
    for c in ('nv', 'mel'): put(tmp_path, c, [c])
    (tmp_path/'df').symlink_to(tmp_path/'gone')
    refused("df' cannot be listed (it is a link that leads nowhere", tmp_path)
    (tmp_path/'df').unlink()
    (tmp_path/'df').symlink_to('df')
    refused("df' cannot be listed", tmp_path)
    (tmp_path/'df').unlink()
    (tmp_path/'df').mkdir()
    with pytest.warns(UserWarning, match="hold no image and are no class, the first is '.*df'"): classes(tmp_path)
    (tmp_path/'df'/'scan.mp4').write_bytes(b'?')
    with pytest.warns(UserWarning, match='no image extension'): classes(tmp_path)


def test_a12_every_walk_of_the_package(tmp_path):
    from foprokd.deploy.picture import find_images
    from foprokd.frequency.explorer import load_folder
    from foprokd.train.checkpoint import CheckpointFolder
    for c in ('nv', 'mel'): put(tmp_path, f'labeled-images/{c}', [f'{c}{i}' for i in range(4)])
    calls = [lambda: read_labels(tmp_path, workers=0), lambda: load_folder(tmp_path, 32), lambda: read_dataset('medmnist:dermamnist', tmp_path),
             lambda: read_dataset('isic2019_lt', tmp_path), lambda: read_dataset('hyper_kvasir', tmp_path)]
    with no_entry('mel'):
        for f in calls:
            with pytest.raises(ValueError, match="mel' cannot be listed .Permission denied"): f()
        assert str(tmp_path/'labeled-images'/'mel') in find_images(tmp_path) # which will be a row with an error
    with patch('os.listdir', side_effect=PermissionError(13, 'Permission denied')):
        with pytest.raises(PermissionError): CheckpointFolder(tmp_path).files()


def test_a12_no_silent_walk_is_left(root):
    "Whoever walks uses `walk_files`, or says what cannot be listed"
    for f in (root/'foprokd').rglob('*.py'):
        text = f.read_text(encoding='utf-8')
        assert 'rglob(' not in text and 'get_image_files(' not in text and 'get_files(' not in text, f
        for line in text.splitlines(): assert 'os.walk(' not in line or 'onerror' in line, f


def test_a12_a_table_whose_images_may_lie_in_a_closed_folder(tmp_path):
    ham(tmp_path)
    with no_entry('HAM10000_images_part_2'):
        refused("HAM10000_images_part_2' cannot be listed", tmp_path/'HAM10000_metadata.csv')
        refused("HAM10000_images_part_2' cannot be listed", tmp_path)


# B4: tables as they are published, from the shell

@pytest.mark.parametrize('change', [lambda n: n, lambda n: f'{n}.jpg', lambda n: f'{n}.JPG', lambda n: f'{n}.png', lambda n: n.lower(), lambda n: f'part_1\\{n}.jpg',
                                    lambda n: f'.\\part_1\\{n}', lambda n: f'./part_1/{n}.jpg', lambda n: f'Part_1/{n}', lambda n: f' {n}.jpg '])
def test_b4_names_of_files_as_tables_write_them(tmp_path, change):
    put(tmp_path, 'part_1', IDS[:6])
    put(tmp_path, 'part_2', [i + 'x' for i in IDS[:6]])
    pd.DataFrame(dict(image=list(map(change, IDS[:6])), label=DX[:6])).to_csv(tmp_path/'meta.csv', index=False)
    for source, kwargs in ((tmp_path/'meta.csv', {}), (pd.read_csv(tmp_path/'meta.csv'), dict(root=tmp_path)), (tmp_path, {})):
        df = read_labels(source, workers=0, **kwargs)
        assert [Path(f).stem for f in df.image] == IDS[:6] and df.label.tolist() == DX[:6]


def test_b4_other_tables(tmp_path):
    put(tmp_path, 'im')
    (tmp_path/'hot.csv').write_text(hot(IDS).to_csv(index=False))
    assert classes(tmp_path/'hot.csv') == dict(MEL=4, NV=4, BCC=4)
    assert classes(tmp_path/'hot.csv', label_col='MEL,NV,BCC') == dict(MEL=4, NV=4, BCC=4)
    hot(IDS, age=5).to_csv(tmp_path/'more.csv', index=False)
    refused("no column 'label'", tmp_path/'more.csv')
    assert len(classes(tmp_path/'more.csv', label_col='MEL, NV, BCC, DF')) == 3
    hot(IDS, NV=1.).to_csv(tmp_path/'two.csv', index=False)
    refused('8 of 12 rows of two.csv have not exactly one 1', tmp_path/'two.csv', label_col='MEL,NV,BCC')
    for sep, name in ((';', 'semi.csv'), ('\t', 'tab.tsv')):
        pd.DataFrame({'image': IDS, 'label ': DX}).to_csv(tmp_path/name, sep=sep, index=False)
        assert len(classes(tmp_path/name)) == 3
    (tmp_path/'bom.csv').write_text('\ufeff' + pd.DataFrame(dict(image=IDS, label=DX)).to_csv(index=False), encoding='utf-8')
    assert len(classes(tmp_path/'bom.csv')) == 3


def test_b4_the_sentence_names_what_is_wrong(tmp_path):
    put(tmp_path, 'im')
    put(tmp_path, 'other', ['x'])
    pd.DataFrame(dict(image=IDS, label=DX)).to_csv(tmp_path/'meta.csv', index=False)
    assert "holds 1 images such as 'x.jpg'" in refused('None of the 12 images', tmp_path/'meta.csv', root=tmp_path/'other')
    Image.new('RGB', (9, 9)).save(tmp_path/'other'/f'{IDS[3]}.jpg')
    assert IDS[3] in refused('these differ', tmp_path/'meta.csv')
    shutil.copy(tmp_path/'im'/f'{IDS[3]}.jpg', tmp_path/'other'/f'{IDS[3]}.jpg')
    assert len(classes(tmp_path/'meta.csv')) == 3 # two copies of one file are one image
    pd.DataFrame(dict(image=[f'im/{i}' for i in IDS[:11]] + ['other/9'], label=DX)).to_csv(tmp_path/'meta.csv', index=False)
    refused('1 of 12 files cannot be used (missing 1)', tmp_path/'meta.csv') # a folder that is named is meant


@pytest.mark.parametrize('word, want', [('hyperkvasir', 'hyper_kvasir'), ('Hyper-Kvasir', 'hyper_kvasir'), ('isic2019', 'isic2019_lt'), ('ISIC-2019-LT', 'isic2019_lt'),
                                        ('dermamnist', 'medmnist:dermamnist'), ('RetinaMNIST', 'medmnist:retinamnist'), ('medmnist:dermamnits', ''), ('scans', ''), ('data', '')])
def test_b4_a_mistyped_set_is_suggested(word, want, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if want:
        assert similar_set(word) == want
        with pytest.raises(ValueError, match=f'did you mean {want}'): DataConfig(word)
        (tmp_path/word).mkdir() # a folder of that name is a folder
    if ':' not in word: DataConfig(word)


# B8: damaged files and odd names

def npz(path, n=20, **change):
    rng = np.random.default_rng(0)
    arrays = {f'{p}_images': rng.integers(0, 256, (n, 28, 28), dtype=np.uint8) for p in ('train', 'val', 'test')}
    np.savez(path, **(arrays | {f'{p}_labels': np.arange(n)[:, None] % 2 for p in ('train', 'val', 'test')} | change))


@pytest.mark.parametrize('change, words', [
    (dict(train_labels=np.array([[0], [1], [-1]] * 6 + [[0], [1]])), 'class -1 in its train part (6 labels)'),
    (dict(val_labels=np.full((20, 1), 2)), 'class 2 in its valid part'), (dict(test_labels=np.full((20, 1), .5)), 'class 0.5'),
    (dict(test_labels=np.full((20, 1), np.nan)), 'class nan'), (dict(test_labels=np.zeros((19, 1), int)), '20 images and 19 labels'), (dict(val_labels=np.zeros((0, 1), int)), 'no label')])
def test_b8_labels_of_an_npz_that_are_none(tmp_path, change, words):
    npz(tmp_path/'breastmnist.npz', **change)
    with pytest.raises(ValueError) as e: read_dataset('medmnist:breastmnist', tmp_path)
    assert words in str(e.value)


@pytest.mark.parametrize('member', ['train_images', 'val_images', 'test_labels'])
def test_b8_an_npz_that_is_damaged_in_the_middle(tmp_path, member):
    file = tmp_path/'breastmnist.npz'
    npz(file)
    with zipfile.ZipFile(file) as z: at = z.getinfo(f'{member}.npy')
    raw = bytearray(file.read_bytes())
    k = at.header_offset + at.compress_size // 2 + 60
    raw[k:k + 20] = bytes(255 - o for o in raw[k:k + 20])
    file.write_bytes(raw)
    with pytest.raises(ValueError, match='breastmnist.npz .*download it again'): read_dataset('medmnist:breastmnist', tmp_path)
    file.write_bytes(raw[:len(raw) // 2])
    with pytest.raises(ValueError, match='breastmnist.npz .*download it again'): read_dataset('medmnist:breastmnist', tmp_path)


def test_b8_advice_names_what_there_is(tmp_path):
    (tmp_path/'labeled-images').mkdir()
    flags = '--' + ' --'.join(k.replace('_', '-') for k in DataConfig.__dataclass_fields__)
    for spec in ('medmnist:dermamnist', 'hyper_kvasir', 'isic2019_lt'):
        with pytest.raises(ValueError) as e: read_dataset(spec, tmp_path)
        said = str(e.value)
        assert 'download=True' not in said or 'in Python' in said
        for word in said.split(): assert not word.startswith('(--') or word.strip('(),.:').split()[0] in flags


def test_b8_a_name_that_is_no_text_is_named(tmp_path):
    for c in ('nv', 'mel'): put(tmp_path, c, [f'{c}{i}' for i in range(3)])
    odd = os.fsencode(tmp_path/'nv') + b'/lat\xe9.jpg'
    shutil.copy(tmp_path/'nv'/'nv0.jpg', odd)
    assert r'nv/lat\udce9.jpg' in refused('1 of 7 files cannot be used (no UTF-8 name 1)', tmp_path)
    with pytest.warns(UserWarning, match='no UTF-8 name 1'): assert len(read_labels(tmp_path, bad='drop', workers=0)) == 6
    assert scan_images([os.fsdecode(odd)] * 2, workers=0).problem.tolist() == ['no UTF-8 name'] * 2
    os.rename(tmp_path/'mel', os.fsencode(tmp_path) + b'/m\xe9l')
    refused('no UTF-8 name 4', tmp_path)


def test_b8_another_format_than_its_name_is_used_and_said(tmp_path):
    for c in ('nv', 'mel'): put(tmp_path, c, [f'{c}{i}' for i in range(3)])
    Image.new('RGB', (8, 8)).save(tmp_path/'nv'/'odd.jpg', format='PNG')
    with pytest.warns(UserWarning, match="1 files hold another format than their names say and are used, the first is 'nv/odd.jpg'"): df = read_labels(tmp_path, workers=0)
    assert len(df) == 7
    with pytest.raises(ValueError, match='wrong extension 1'): usable_rows(df, ignore=(), workers=0)


@pytest.mark.parametrize('ext', ['.tga', '.avif', '.ico'])
def test_b8_formats_that_no_clinic_reads_are_refused_before_training(tmp_path, ext):
    from foprokd.data.rgb import READ_FORMATS
    from foprokd.deploy.picture import _FORMATS
    assert set(READ_FORMATS) == {*_FORMATS, 'MPO'}
    Image.init()
    if ext not in Image.registered_extensions(): pytest.skip('Pillow cannot write it')
    for c in ('nv', 'mel'): put(tmp_path, c, [f'{c}{i}' for i in range(3)])
    Image.new('RGB', (16, 16)).save(tmp_path/f'x{ext}')
    assert inspect_file(str(tmp_path/f'x{ext}'))['problem'] == 'unsupported format'
    shutil.move(tmp_path/f'x{ext}', tmp_path/'nv'/'x.jpg') # whatever it is called
    refused('unsupported format 1', tmp_path)


def test_b8_a_table_that_is_no_text(tmp_path):
    put(tmp_path, 'im')
    (tmp_path/'latin.csv').write_bytes('image,label\na,n\u00e9vus\n'.encode('latin-1'))
    refused('no CSV table of UTF-8 text', tmp_path/'latin.csv')


# E11

def test_e11_retinamnist_is_one_of_the_long_tailed_ones(tmp_path):
    n = 20
    rng = np.random.default_rng(0)
    np.savez(tmp_path/'retinamnist.npz', **{f'{p}_images': rng.integers(0, 256, (n, 28, 28, 3), dtype=np.uint8) for p in ('train', 'val', 'test')},
             **{f'{p}_labels': np.arange(n)[:, None] % 5 for p in ('train', 'val', 'test')})
    df = read_dataset('medmnist:retinamnist', tmp_path)
    assert df.label.nunique() == 5 and 'ordered grades, taken as classes' in df.attrs['about']['text']
    assert understood(df)['kind'] == 'published set' and 'MedMNIST retinamnist' in understood_text(df)
    for name, why in (('chestmnist', 'multi-label'), ('organmnist3d', 'three-dimensional')):
        with pytest.raises(ValueError, match=why): read_dataset(f'medmnist:{name}', tmp_path)
