"2,000 changed files for every reader, of other numbers than the nightly workflow's 100,000; and that the fuzzer would see what it looks for."
import json
import sys
import time
from collections import Counter

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT/'tools'))
fuzz = pytest.importorskip('fuzz')  # it needs a system with fork
pytest.importorskip('onnx')


def test_2000_changed_files_are_read_or_refused():
    count, found = fuzz.fuzz(2000, seed=2000)
    assert not found, '\n'.join(f'python tools/fuzz.py --seed 2000 --kinds {kind} --only {i}  # {came}' for kind, i, came in found)
    assert count.total() == 2000 and count['read'] > 300 and count['refused'] > 800, count  # neither all sound nor all broken at the first byte


def test_a_file_is_the_same_each_time():
    good = fuzz.seeds()
    for kind in good:
        assert fuzz.changed(kind, 7, 0, good) == fuzz.changed(kind, 7, 0, good)
        assert len({fuzz.changed(kind, i, 0, good)[0] for i in range(50)}) > 40


@pytest.mark.parametrize('harm, said', [
    (lambda f: int('x'), 'ValueError of others'), (lambda f: {}['a'], 'KeyError'), (lambda f: json.loads(f.read_bytes()[:1] + b'{'), 'of others'), (lambda f: time.sleep(9), 'no answer in 1 s'),
    (lambda f: bytearray(700 * 2**20)[::4096].count(1), 'MiB'), (lambda f: fuzz.os._exit(7), 'the process died (7)'), (lambda f: sys.exit(3), 'SystemExit'),
    (lambda f: print('a banner'), 'printed'), (lambda f: fuzz.os.write(1, b'of a library below'), 'printed')])
def test_the_fuzzer_sees_it(monkeypatch, harm, said):
    class Bad(fuzz.Readers):
        def __init__(self, folder, good): self.of = dict(yaml=[harm])
    monkeypatch.setattr(fuzz, 'Readers', Bad)
    monkeypatch.setattr(fuzz, 'SECONDS', 1 if 'no answer' in said else 20)
    count, found = fuzz.fuzz(2, kinds=['yaml'])
    assert count == Counter(failed=2) and all(said in came for *_, came in found), found
