"The cache of resized copies under rough treatment: killed, built twice at once, torn."
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import environment, paths, start_file
from PIL import Image

from foprokd.data.images import open_rgb
from foprokd.data.resized import ResizedImages

SIZE, KINDS = 96, 8
# No `__main__` guard, on purpose: a build has to work from the plainest of scripts.
BUILD = '''
import json, sys
from pathlib import Path
from foprokd.data.resized import ResizedImages
files, cache, go = sorted(map(str, Path(sys.argv[1]).glob('*.jpg'))), sys.argv[2], Path(sys.argv[3])
copies = ResizedImages(cache, %d)
go.with_name(go.name + sys.argv[4]).touch()
while not go.exists(): pass
print(json.dumps(copies.build(files, workers=2)))
''' % SIZE
# Worker processes after threads: what `DataLoader` does with a cache that was built a moment ago.
LOAD = '''
from torch.utils.data import DataLoader
loader = DataLoader(files[:40], batch_size=10, num_workers=2, multiprocessing_context='fork',
                    collate_fn=lambda fs: sum(int(copies.read(f).sum()) for f in fs))
print(sum(loader))
'''


@pytest.fixture(scope='module')
def originals(tmp_path_factory):
    "240 noise JPEGs of 600x450, eight different ones"
    folder, rng = tmp_path_factory.mktemp('originals'), np.random.default_rng(0)
    for k in range(KINDS): Image.fromarray(rng.integers(0, 256, (450, 600, 3), dtype=np.uint8)).save(folder/f'{k}.jpg', quality=90)
    for i in range(KINDS, 240): (folder/f'{i}.jpg').write_bytes((folder/f'{i % KINDS}.jpg').read_bytes())
    return folder


@pytest.fixture(scope='module')
def files(originals):
    "The originals' paths"
    return sorted(map(str, originals.glob('*.jpg')))


@pytest.fixture(scope='module')
def wanted(originals):
    "What the copies have to be, by kind"
    return [np.asarray(open_rgb(originals/f'{k}.jpg', SIZE)) for k in range(KINDS)]


def start(originals, cache, go, name, more='', fresh=False):
    "Begin a build in a process of its own, a fork or a fresh one, which waits for the file `go`; its output goes to two files beside that"
    script = go.with_name(f'{name}.py')
    script.write_text(BUILD + more, encoding='utf-8')
    args, env, out, err = [originals, cache, go, name], environment(PYTHONPATH=paths()), go.with_name(f'{name}.out'), go.with_name(f'{name}.err')
    if not fresh: return start_file(script, args, go.parent, env, out, err)
    with open(out, 'w') as o, open(err, 'w') as e:
        return subprocess.Popen([sys.executable, '-W', 'ignore', str(script), *map(str, args)], env=env, start_new_session=True, stdout=o, stderr=e)


def wait(until, seconds=120):
    "Wait for a condition; the test fails without it"
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(.005)


def check(copies, files, wanted):
    "Every copy is there, read from its own file, and right; nothing else lies about"
    for f in files:
        got = np.asarray(Image.open(copies.path(f)))
        np.testing.assert_array_equal(got, wanted[int(Path(f).stem) % KINDS])
        np.testing.assert_array_equal(copies.read(f), got)
    names = [p.name for p in Path(copies.folder).rglob('*') if p.is_file()]
    assert len(names) == len(files) and all(n.endswith('.p6') for n in names)


def test_killed_build_is_taken_up_again(originals, files, wanted, tmp_path):
    copies, go = ResizedImages(tmp_path/'cache', SIZE), tmp_path/'go'
    go.touch()
    done = lambda: sorted(Path(copies.folder).glob('??/[!.]*.p6'))
    proc = start(originals, tmp_path/'cache', go, 'killed')
    try: wait(lambda: len(done()) >= 60 or proc.poll() is not None)
    finally: os.killpg(proc.pid, signal.SIGKILL)
    assert proc.wait() == -signal.SIGKILL, (tmp_path/'killed.err').read_text()[-2000:]
    kept = {p: p.stat().st_mtime_ns for p in done()}
    assert 60 <= len(kept) < len(files)
    assert all(p.stat().st_size == copies.nbytes for p in kept)
    half = next(iter(kept)).with_name('.half.tmp.p6')  # whether the kill left one is a matter of luck
    half.write_bytes(b'P6')
    res = copies.build(files, workers=2, stale=-1)
    assert res == dict(made=len(files) - len(kept), found=len(kept), failed=[])
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    check(copies, files, wanted)


@pytest.mark.parametrize('fresh', [False, pytest.param(True, marks=pytest.mark.long)], ids=['forks', 'own'])
def test_two_builds_at_once(originals, files, wanted, tmp_path, fresh):
    copies, go, names = ResizedImages(tmp_path/'cache', SIZE), tmp_path/'go', ('one', 'two')
    procs = [start(originals, tmp_path/'cache', go, n, LOAD, fresh) for n in names]
    try:
        wait(lambda: all((tmp_path/f'go{n}').exists() or p.poll() is not None for n, p in zip(names, procs)))
        go.touch()
        wait(lambda: all(p.poll() is not None for p in procs))
    finally:
        for p in procs:
            if p.poll() is None: os.killpg(p.pid, signal.SIGKILL)
    outs = [[(tmp_path/f'{n}.{o}').read_text() for o in ('out', 'err')] for n in names]
    for p, (_, err) in zip(procs, outs): assert p.returncode == 0 and not err, err[-2000:]
    check(copies, files, wanted)
    total = sum(int(wanted[int(Path(f).stem) % KINDS].sum()) for f in files[:40])
    made = 0
    for out, _ in outs:
        res, loaded = map(json.loads, out.splitlines())
        assert res['made'] + res['found'] == len(files) and not res['failed']
        assert loaded == total
        made += res['made']
    assert made >= len(files)


@pytest.mark.parametrize('keep', [0, 7, 20, 1000])
def test_torn_copy_is_passed_over_and_made_again(files, wanted, tmp_path, keep):
    copies, some = ResizedImages(tmp_path/'cache', SIZE), files[:6]
    assert copies.build(some)['made'] == 6
    path = copies.path(some[2])
    path.write_bytes(path.read_bytes()[:keep])
    assert copies.missing(some) == [some[2]]
    np.testing.assert_array_equal(copies.read(some[2]), np.asarray(open_rgb(some[2], SIZE)))
    assert path.stat().st_size == keep  # reading does not write
    assert copies.build(some) == dict(made=1, found=5, failed=[])
    check(copies, some, wanted)


def test_a_folder_that_takes_nothing_is_named(files, tmp_path):
    (tmp_path/'file').touch()
    copies = ResizedImages(tmp_path/'file'/'below', SIZE)
    with pytest.raises(OSError, match='file/below.*name a folder'): copies.build(files[:3])
