"The published sets, folds and damaged files through the commands, on small trees with the released names."
import json
import zlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from foprokd.data.isic import ISIC_CLASSES
from foprokd.data.kvasir import HYPER_KVASIR_NAMES

QUICK = ['--method', 'bsm', '--student', 'test_resnet', '--size', '32', '--bs', '8', '--distill', '1', '--quiet', '--seeds', '0']


def rows(out, name='results.jsonl'):
    "The rows that a run wrote"
    return [json.loads(o) for o in (out/name).read_text().splitlines()]


def picture(file, rng, value):
    "One small noisy image"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((rng.random((16, 16, 3)) * 40 + value).astype('uint8')).save(file)


@pytest.fixture(scope='module')
def kvasir(tmp_path_factory):
    "A tree with three of HyperKvasir's classes and a fold file with their published names"
    root, rng, listed = tmp_path_factory.mktemp('kvasir'), np.random.default_rng(0), []
    for tree, (name, n) in dict(cecum=('normal-cecum', 30), polyps=('polyp', 20), ileum=('ileum', 10)).items():
        assert HYPER_KVASIR_NAMES[tree] == name or HYPER_KVASIR_NAMES[name] == tree
        for i in range(n):
            picture(root/f'labeled-images/lower-gi-tract/any/{tree}/{tree}-{i}.jpg', rng, 40 + 3 * n)
            listed.append((f'{tree}-{i}.jpg', name, i % 5))
    pd.DataFrame(listed, columns=['file-name', 'class-name', 'split-index']).to_csv(root/'5_fold_split.csv', sep=';', index=False)
    return root


def test_all_folds_of_hyper_kvasir_are_pooled(foprokd_run, kvasir, tmp_path):
    res = foprokd_run('--data', 'hyper_kvasir', '--data-root', kvasir, '--fold', 'all', '--groups', '15,25', '--groups-on', 'full', *QUICK,
                      '--cache-dir', tmp_path/'copies', '--out', tmp_path/'out')
    assert res.returncode == 0, res.stderr[-3000:]
    done, [pooled] = rows(tmp_path/'out'), rows(tmp_path/'out', 'pooled.jsonl')
    assert [r['fold'] for r in done] == [0, 1, 2, 3, 4] and pooled['fold'] == 'pooled'
    assert [r['n_test'] for r in done] == [12] * 5 and pooled['n_test'] == 60
    assert all(r['about_data']['about']['name'] == 'hyper_kvasir' for r in done)
    assert pooled['group_rule'] == 'head > 25, tail < 15 images, on full counts: 1/1/1 classes' and '5 folds pooled' in res.stdout
    assert len([f for f in (tmp_path/'copies').rglob('*') if f.is_file()]) == 60


def test_one_fold_of_hyper_kvasir(foprokd_run, kvasir, tmp_path):
    res = foprokd_run('--data', 'hyper_kvasir', '--data-root', kvasir, '--fold', 3, *QUICK, '--out', tmp_path/'out')
    assert res.returncode == 0, res.stderr[-3000:]
    [row] = rows(tmp_path/'out')
    assert row['fold'] == 3 and list((tmp_path/'out').glob('bsm_*_seed0/student.safetensors'))


@pytest.fixture(scope='module')
def isic(tmp_path_factory):
    "Split files in the authors' format, and images for two thirds of their ids"
    root, rng, k = tmp_path_factory.mktemp('isic'), np.random.default_rng(0), 0
    for part, n in dict(train=12, val=3, test=3).items():
        listed = []
        for c, label in enumerate(ISIC_CLASSES):
            for i in range(n):
                k += 1
                name = f'ISIC_{k:07d}' + ('_downsampled' if k % 4 == 0 else '')
                if k % 3: picture(root/f'input/deep/{name}.jpg', rng, 20 * c)
                listed.append((name.removesuffix('_downsampled'), c, c))
        pd.DataFrame(listed, columns=['image', 'finding_name', 'finding']).to_csv(root/f'{part}_skin1_0.01.csv', index=False)
    return root


def test_isic_with_absent_images_is_refused_and_can_go_on(foprokd_run, isic, tmp_path):
    args = ['--data', 'isic2019_lt', '--data-root', isic, '--fold', 1, '--imbalance', 100, *QUICK, '--out', tmp_path/'out']
    res = foprokd_run(*args)
    assert res.returncode == 2 and 'of 144 images were not found' in res.stderr and 'Traceback' not in res.stderr
    assert not (tmp_path/'out'/'results.jsonl').exists()
    res = foprokd_run(*args, '--missing', 'drop')
    assert res.returncode == 0, res.stderr[-3000:]
    [row] = rows(tmp_path/'out')
    assert sum(row['about_data']['about']['not_found'].values()) == 48 and row['n_train'] + row['n_valid'] + row['n_test'] == 96
    assert 'nominal 1:100' in res.stdout and 'true' in res.stdout


def test_medmnist_from_a_local_file(foprokd_run, tmp_path):
    rng, n = np.random.default_rng(0), dict(train=28, val=14, test=14)
    np.savez(tmp_path/'dermamnist.npz', **{f'{p}_images': rng.integers(0, 255, (m, 28, 28, 3), dtype=np.uint8) for p, m in n.items()},
             **{f'{p}_labels': np.arange(m)[:, None] % 7 for p, m in n.items()})
    res = foprokd_run('--data', 'medmnist:dermamnist', '--data-root', tmp_path, *QUICK, '--out', tmp_path/'out')
    assert res.returncode == 0, res.stderr[-3000:]
    [row] = rows(tmp_path/'out')
    assert (row['n_train'], row['n_valid'], row['n_test'], len(row['classes'])) == (28, 14, 14, 7)


@pytest.mark.parametrize('args, words', [
    (('--data', 'isic2019_lt'), 'needs data_root'),
    (('--data', 'medmnist:dermamnits', '--data-root', '.'), 'did you mean'),
    (('--data', 'hyper_kvasir', '--data-root', '.', '--fold', '9'), 'fold=9'),
])
def test_what_a_set_does_not_have_is_said(foprokd_run, tmp_path, args, words):
    res = foprokd_run(*args, *QUICK, '--out', tmp_path/'out')
    assert res.returncode == 2 and words in res.stderr and 'Traceback' not in res.stderr, res.stderr[-2000:]


@pytest.fixture(scope='module')
def damaged(tmp_path_factory):
    "Class folders with 48 good images and eight kinds of damaged or odd files"
    root, rng = tmp_path_factory.mktemp('damaged'), np.random.default_rng(0)
    for c, n in dict(a=24, b=16, c=8).items():
        for i in range(n): picture(root/c/f'{i}.png', rng, 20 * ord(c) % 200)
    png, jpg = (root/'a'/'0.png').read_bytes(), tmp_path_factory.mktemp('j')/'x.jpg'
    Image.open(root/'a'/'1.png').resize((64, 64)).save(jpg)
    (root/'a'/'empty.png').write_bytes(b'')
    (root/'a'/'text.jpg').write_text('not an image')
    (root/'b'/'torn.jpg').write_bytes(jpg.read_bytes()[:-300])
    (root/'b'/'torn.png').write_bytes(png[:len(png) // 2])
    (root/'b'/'really_png.jpg').write_bytes(png)
    header = b'IHDR' + (100_000).to_bytes(4, 'big') * 2 + png[24:29]
    (root/'c'/'huge.png').write_bytes(png[:12] + header + zlib.crc32(header).to_bytes(4, 'big') + png[33:])
    Image.fromarray(np.ones((8, 8), np.float32)).save(root/'c'/'float.tif')
    (root/'c'/'nowhere.png').symlink_to(root/'gone.png')
    return root


ODD = {'empty.png': 'empty', 'text.jpg': 'not an image', 'torn.jpg': 'truncated', 'torn.png': 'truncated', 'really_png.jpg': 'wrong extension',
       'huge.png': 'too large', 'float.tif': 'unsupported mode', 'nowhere.png': 'missing'}


def test_damaged_files_are_refused_or_dropped(foprokd_run, damaged, tmp_path):
    args = ['--data', damaged, *QUICK, '--out', tmp_path/'out']
    res = foprokd_run(*args)
    assert res.returncode == 2 and '7 of 56' in res.stderr and 'Traceback' not in res.stderr, res.stderr[-2000:]
    res = foprokd_run(*args, '--bad', 'drop')
    assert res.returncode == 0, res.stderr[-3000:]
    [row] = rows(tmp_path/'out')
    assert row['n_train'] + row['n_valid'] + row['n_test'] == 49 and sum(row['about_data']['dropped'].values()) == 7


def test_every_damaged_file_is_in_one_report(damaged):
    from foprokd.data.labels import read_labels
    from foprokd.data.scan import verify_images
    report = verify_images(read_labels(damaged, bad=None))
    assert {f.rsplit('/', 1)[1]: p for f, p in zip(report.image, report.problem)} == ODD


def test_data_command_shows_and_writes_a_page(foprokd_data, kvasir, tmp_path):
    res = foprokd_data('--data', 'hyper_kvasir', '--data-root', kvasir, '--fold', 0, '--out', tmp_path)
    assert res.returncode == 0, res.stderr[-3000:]
    assert 'true ratio' in res.stdout and (tmp_path/'data_fold0.html').stat().st_size > 10_000
