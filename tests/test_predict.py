"The command `foprokd_predict` in a process of its own: odd files, ten thousand files, an interruption, and an environment without torch."
import csv
import json
import os
import signal
import subprocess
import sys
import time
import venv
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import LAUNCHER, ROOT, environment, python
from foprokd import __version__

onnx = pytest.importorskip('onnx')
NAMES = ['red', 'green', 'blue']
SURE = 'foprokd_predict: calibration: nothing is recorded; probabilities may be too sure or not sure enough.\n'
NOTES = dict(format=1, classes=NAMES, input_size=[16, 16], open='upright', white=65535, resize=dict(method='squish', pad_mode='zeros', inside=True),
             mean=[.5] * 3, std=[.25] * 3, prior_of_logits=[1/3] * 3, prior=[1/3] * 3, temperature=1., conformal={'0.9': dict(overall=.6, by_class=[.7, .55, 1.])})


def student_bytes(notes=NOTES, external=False):
    "A student whose logits are the mean colour, in units of 51"
    helper, f = onnx.helper, onnx.TensorProto.FLOAT
    value, node = helper.make_tensor_value_info, helper.make_node
    w = onnx.numpy_helper.from_array((np.eye(3) / 51).astype('f'), 'w')
    if external:
        w.ClearField('raw_data')
        w.data_location = onnx.TensorProto.EXTERNAL
        e = w.external_data.add()
        e.key, e.value = 'location', 'w.bin'
    third = np.full(3, 1/3, 'f')
    init = [w, *(onnx.numpy_helper.from_array(np.array(v), n) for n, v in dict(prior=third, temperature=np.float32(1), axes=[1, 2], p0=third).items())]
    nodes = [node('Cast', ['images'], ['x'], to=f), node('ReduceMean', ['x', 'axes'], ['m'], keepdims=0), node('MatMul', ['m', 'w'], ['logits']),
             node('Div', ['logits', 'temperature'], ['z']), node('Div', ['prior', 'p0'], ['r']), node('Log', ['r'], ['lr']), node('Add', ['z', 'lr'], ['a']),
             node('Softmax', ['a'], ['probabilities'], axis=-1)]
    takes = [value('images', onnx.TensorProto.UINT8, ['N', 'H', 'W', 3]), value('prior', f, [3]), value('temperature', f, [])]
    graph = helper.make_graph(nodes, 'tiny', takes, [value('probabilities', f, ['N', 3]), value('logits', f, ['N', 3])], init)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=8) # as the package writes
    if notes is not None:
        e = model.metadata_props.add()
        e.key, e.value = 'foprokd', notes if isinstance(notes, str) else json.dumps(notes)
    return model.SerializeToString()


def start(cwd, *args, **kwargs):
    "The command, started"
    (Path(cwd)/'launch.py').write_text(LAUNCHER.format('deploy.predict', 'foprokd_predict', 'foprokd_predict'))
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    def listen(): signal.signal(signal.SIGINT, signal.SIG_DFL) # which a shell's background job ignores, and hands on
    kwargs = {**dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, preexec_fn=listen), **kwargs}
    return subprocess.Popen([sys.executable, 'launch.py', *map(os.fspath, args)], cwd=cwd, env=environment(PYTHONPATH=path, PYTHONUNBUFFERED=''), **kwargs)


def run(cwd, *args):
    "Exit code, stdout, stderr"
    p = start(cwd, *args)
    out, err = (o.decode('utf-8') for o in p.communicate(timeout=120))
    assert 'Traceback' not in err, err
    return p.returncode, out, err


def table(text): return list(csv.DictReader(StringIO(text, newline='')))


@pytest.fixture
def here(tmp_path):
    "A folder with a student"
    (tmp_path/'student.onnx').write_bytes(student_bytes())
    return tmp_path


def picture(i, side=24):
    "A small image that is like no other, mostly of the colour i % 3"
    x = np.random.default_rng(i).integers(0, 99, (side, side, 3), dtype=np.uint8)
    x[..., i % 3] += 120
    return Image.fromarray(x)


def test_rows_on_stdout_and_exit_codes(here):
    (here/'pics').mkdir()
    for i in range(9): picture(i).save(here/'pics'/f'{i}.png')
    code, out, err = run(here, 'student.onnx', 'pics', '--level', '.9')
    rows = table(out)
    assert (code, err) == (0, f'foprokd_predict: 9 of 9 images predicted.\n{SURE}')
    assert [r['class'] for r in rows] == NAMES * 3 and [r['file'] for r in rows] == [f'pics/{i}.png' for i in range(9)]
    assert all(abs(sum(float(r[f'p_{c}']) for c in NAMES) - 1) < 1e-5 and r['set'] for r in rows)
    code, out, err = run(here, 'student.onnx', 'pics/3.png', '--json', '-', '--quiet', '--prior', 'red=1e-6,green=1,blue=1e-6')
    [row] = map(json.loads, out.splitlines())
    assert (code, err, row['class'], list(row['probabilities'])) == (0, '', 'green', NAMES)
    assert run(here, '--help')[0] == 0
    code, out, err = run(here, 'student.onnx', '--about')
    assert (code, err, json.loads(out)['classes']) == (0, '', NAMES) and 'Research only, not a medical device.' in out
    assert run(here, '--version') == (0, f'foprokd {__version__}\n', '')


def test_odd_files(here):
    odd = here/'odd'
    odd.mkdir()
    good = ['a,"b"\n.png', 'Ünï 图.png', os.fsdecode(b'\xff\xfe.png'), 'one.png', 'deep.tif', 'moving.gif', 'cmyk.jpg', 'turned.jpg', 'pages.tiff', 'palette.png', 'exif.jpg']
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in good[:3]: picture(0).save(odd/'x.png'); (odd/'x.png').rename(odd/name)
    Image.new('LA', (1, 1), (9, 200)).save(odd/'one.png')
    Image.fromarray(np.arange(0, 60000, 100, dtype=np.uint16).reshape(20, 30)).save(odd/'deep.tif')
    picture(1).convert('CMYK').save(odd/'cmyk.jpg')
    picture(2).save(odd/'turned.jpg', exif=exif)
    picture(2).save(odd/'exif.jpg', exif=b'Exif\0\0II*\0\x08\0\0\0\x02\0')  # Pillow warns that it is corrupt
    picture(2).convert('P').save(odd/'palette.png', transparency=bytes(range(256)))
    for name in ('moving.gif', 'pages.tiff'): picture(3).save(odd/name, save_all=True, append_images=[picture(4), picture(5)])
    bad = ['cut.jpg', 'empty.png', 'text.jpg', 'pipe.jpg', 'self.png', 'lost.png', 'huge.png']
    picture(4, 64).save(odd/'cut.jpg')
    (odd/'cut.jpg').write_bytes((odd/'cut.jpg').read_bytes()[:-400])
    (odd/'empty.png').touch()
    (odd/'text.jpg').write_text('no image')
    os.mkfifo(odd/'pipe.jpg')
    (odd/'self.png').symlink_to('self.png')
    (odd/'lost.png').symlink_to('nowhere.png')
    Image.new('1', (11_000, 11_000)).save(odd/'huge.png')
    (odd/'folder.jpg').mkdir()
    (odd/'folder.jpg'/'in').symlink_to(odd)
    closed = odd/'closed.png'
    if os.geteuid():  # root may read everything; the notebook tests the refusal by hand
        picture(0).save(closed)
        closed.chmod(0)
        bad.append('closed.png')
    code, out, err = run(here, 'student.onnx', 'odd')
    rows = {r['file'][4:]: r for r in table(out)}
    shown = {n: n.encode('utf-8', 'backslashreplace').decode() for n in good + bad}
    assert code == 1 and list(rows) == [shown[o] for o in sorted(good + bad)]
    assert [n for n in good + bad if rows[shown[n]]['error']] == bad, rows
    assert all(bool(r['class']) != bool(r['error']) for r in rows.values())
    assert {n for n in good if rows[shown[n]]['note']} == {'moving.gif', 'pages.tiff'}
    assert err.count('\n') == len(bad) + 2 and all(repr(f'odd/{n}') in err for n in bad) and 'warn' not in err.lower()
    assert '11000 x 11000' in rows['huge.png']['error']
    code, out, err = run(here, 'student.onnx', 'odd/huge.png', '--max-megapixels', '200')
    assert code == 0, err
    assert run(here, 'student.onnx', 'odd/text.jpg')[0] == 1 and run(here, 'student.onnx', 'gone.jpg')[0] == 1


@pytest.mark.parametrize('content,said', [
    (lambda: b'', 'the file is empty'), (lambda: b'hello', 'no ONNX file'), (lambda: student_bytes()[:-40], 'cut off'),
    (lambda: student_bytes(None), 'no student of foprokd'), (lambda: student_bytes('{'), 'no JSON'), (lambda: student_bytes({'format': 1}), 'lack classes'),
    (lambda: student_bytes({**NOTES, 'classes': ['a', 'b']}), '2 classes'), (lambda: student_bytes({**NOTES, 'format': 9}), 'newer foprokd'),
    (lambda: student_bytes(external=True), 'another file')], ids='empty text cut foreign json lacking classes newer external'.split())
def test_students_that_are_none(here, content, said):
    (here/'w.bin').write_bytes((np.eye(3) / 51).astype('f').tobytes())  # onnxruntime would read it
    (here/'bad.onnx').write_bytes(content())
    picture(0).save(here/'a.png')
    code, out, err = run(here, 'bad.onnx', 'a.png')
    assert (code, out, err.count('\n')) == (2, '', 1) and said in err


def test_zero_images_and_what_is_not_overwritten(here):
    (here/'none').mkdir()
    assert run(here, 'student.onnx', 'none')[::2] == (2, "foprokd_predict: there is no image in 'none'.\n")
    picture(0).save(here/'a.png')
    before = (here/'a.png').read_bytes(), (here/'student.onnx').read_bytes()
    for out in ('a.png', 'student.onnx'): assert run(here, 'student.onnx', 'a.png', '--csv', out)[0] == 2
    assert before == ((here/'a.png').read_bytes(), (here/'student.onnx').read_bytes())
    assert run(here, 'student.onnx')[0] == 2 and run(here)[0] == 2


MEASURED = r'''
import json, os, re, resource, sys, time
from foprokd.deploy.predict import foprokd_predict
begin = time.time()
try: foprokd_predict(sys.argv[1:] or json.load(open("args.json")))
except SystemExit as e: code = e.code
try: peak = int(re.search(r"VmHWM:\s*(\d+)", open("/proc/self/status").read())[1])  # ru_maxrss starts at that of the parent
except OSError: peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps(dict(code=code, peak=peak, seconds=time.time() - begin)))
'''


def measured(here, *args):
    "Exit code, peak memory in MB, seconds, and stderr of the command in a process of its own"
    (here/'args.json').write_text(json.dumps(args))
    res = python(MEASURED, here, fresh=True)
    assert res.returncode == 0, res.stderr[-2000:]
    r = json.loads(res.stdout)
    return r['code'], r['peak'] / 1024, r['seconds'], res.stderr


@pytest.mark.parametrize('n,size', [(1_000, 224), pytest.param(10_000, 112, marks=pytest.mark.long)])
def test_many_files_with_one_percent_broken(here, n, size):
    many, few = here/'many', here/'few'
    many.mkdir()
    few.mkdir()
    (here/'student.onnx').write_bytes(student_bytes({**NOTES, 'input_size': [size, size]}))
    for i in range(50): picture(i, 200).save(few/f'{i:02}.jpg')
    sources = sorted(few.iterdir())
    whole, broken = sources[0].read_bytes(), set(range(37, n, 100))
    for i in range(n):
        file = many/f'{i:05}.jpg'
        if i in broken: file.write_bytes(b'' if i % 3 == 0 else whole[:len(whole) // 2] if i % 3 == 1 else b'text')
        else: os.link(sources[i % 50], file)
    code, small, *_ = measured(here, 'student.onnx', 'few', '--csv', 'few.csv')
    assert code == 0
    code, peak, seconds, err = measured(here, 'student.onnx', 'many', '--csv', 'many.csv', '--json', 'many.jsonl')
    print(f'{n} files: {seconds:.1f} s, peak {peak:.0f} MB; 50 files: {small:.0f} MB')
    rows, lines = table((here/'many.csv').read_text()), [json.loads(o) for o in (here/'many.jsonl').read_text().splitlines()]
    assert code == 1 and len(broken) == n // 100 and peak < small + 60  # all of them at the input size would be 150 MB more, or 370
    assert [r['file'] for r in rows] == [r['file'] for r in lines] == [f'many/{i:05}.jpg' for i in range(n)]
    assert {i for i, r in enumerate(rows) if r['error']} == broken == {i for i, r in enumerate(lines) if r['error']}
    assert [r['class'] for i, r in enumerate(rows) if i not in broken] == [NAMES[i % 50 % 3] for i in range(n) if i not in broken]
    assert err.count('\n') == n // 100 + 2 and f'{n - n // 100} of {n} images predicted, {n // 100} could not be read' in err
    assert not list(here.glob('*.tmp*'))


@pytest.mark.parametrize('sent,code,said', [(signal.SIGINT, 130, 'interrupted'), (signal.SIGTERM, 143, 'ended by SIGTERM')], ids=['INT', 'TERM'])
def test_interrupted(here, sent, code, said):
    (here/'pics').mkdir()
    picture(0, 900).save(here/'pics'/'0000.png')
    for i in range(1, 3000): os.link(here/'pics'/'0000.png', here/'pics'/f'{i:04}.png')
    (here/'out.csv').write_text('old')
    p = start(here, 'student.onnx', 'pics', '--csv', 'out.csv', '--threads', '2')
    for _ in range(600):
        if any(o.stat().st_size for o in here.glob('.out.*.tmp.csv')): break
        time.sleep(.05)
    assert list(here.glob('.out.*.tmp.csv')) and p.poll() is None
    p.send_signal(sent)
    out, err = p.communicate(timeout=30)
    assert (p.returncode, err.decode()) == (code, f'foprokd_predict: {said}\n')
    assert (here/'out.csv').read_text() == 'old' and not list(here.glob('*.tmp*'))


def test_reader_of_a_pipe_leaves(here):
    (here/'pics').mkdir()
    picture(0).save(here/'pics'/'0000.png')
    for i in range(1, 2000): os.link(here/'pics'/'0000.png', here/'pics'/f'{i:04}.png')
    p = start(here, 'student.onnx', 'pics')
    assert p.stdout.readline().startswith(b'file,class')
    p.stdout.close()
    err = p.stderr.read().decode()
    assert p.wait(60) == 130 and 'Traceback' not in err and 'Broken' not in err, err


def test_disk_is_full(here, monkeypatch):
    # coverage.py would write below the same limit
    for k in ('COVERAGE_PROCESS_CONFIG', 'COVERAGE_PROCESS_START'): monkeypatch.delenv(k, raising=False)
    (here/'pics').mkdir()
    for i in range(40): picture(i).save(here/'pics'/f'{i}.png')
    (here/'out.csv').write_text('old')
    limit = 'import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n'  # writing more fails, as on a full disk
    call = 'from foprokd.deploy.predict import foprokd_predict\nfoprokd_predict(["student.onnx", "pics", "--csv", "out.csv", "--json", "small.jsonl"])\n'
    res = python(limit + call, here, fresh=True, PYTHONDONTWRITEBYTECODE='1')
    assert (res.returncode, res.stderr) in [(2, f"foprokd_predict: '{o}' cannot be written: File too large.\n") for o in ('out.csv', 'small.jsonl')]
    assert (here/'out.csv').read_text() == 'old' and not list(here.glob('*.tmp*')) and not (here/'small.jsonl').exists()
    for args in (['pics'], ['--about']):
        with open('/dev/full', 'w') as full: p = start(here, 'student.onnx', *args, stdout=full)
        assert (p.communicate(timeout=60)[1].decode(), p.returncode) == ('foprokd_predict: stdout cannot be written: No space left on device.\n', 2)


def test_onnxruntime_leaves_nothing_behind(here):
    picture(0).save(here/'a.png')
    (here/'temp').mkdir()
    code = ('import os\nos.environ.pop("ORT_DISABLE_TELEMETRY", None)\nif "SAID" in os.environ: os.environ["ORT_DISABLE_TELEMETRY"] = os.environ["SAID"]\n'
            'from foprokd.deploy.onnx_student import OnnxStudent\nassert not [o["error"] for o in OnnxStudent("student.onnx").predict(["a.png"]) if o["error"]]\nprint(os.environ["ORT_DISABLE_TELEMETRY"])\n')
    res = python(code, here, fresh=True, TMPDIR=str(here/'temp'))
    assert (res.returncode, res.stdout) == (0, '1\n'), res.stderr
    assert not list((here/'temp').iterdir())
    res = python(code, here, fresh=True, TMPDIR=str(here/'temp'), SAID='0')
    assert (res.returncode, res.stdout) == (0, '0\n'), res.stderr


FOREIGN = ('import sys\nforeign = sorted({o.split(".")[0] for o in sys.modules} & {"torch", "torchvision", "fastai", "fastcore", "pandas", "timm", "tqdm", '
           '"scipy", "sklearn", "matplotlib", "onnx"})\nassert not foreign, foreign\n')


def test_imports_nothing_of_training_and_starts_fast(here):
    picture(0).save(here/'a.png')
    res = python('import foprokd.deploy.predict, foprokd.data.rgb\n' + FOREIGN + 'assert "onnxruntime" not in sys.modules\n', here, fresh=True)
    assert res.returncode == 0, res.stderr
    res = python('import sys\nfrom foprokd.deploy.predict import foprokd_predict\ntry: foprokd_predict(["student.onnx", "a.png"])\nexcept SystemExit as e: assert e.code == 0\n' + FOREIGN, here, fresh=True)
    assert res.returncode == 0, res.stderr
    took = {}
    for what in (['--help'], ['student.onnx', 'a.png']):
        times = []
        for _ in range(3):
            begin = time.time()
            assert run(here, *what)[0] == 0
            times.append(time.time() - begin)
        took[what[0]] = min(times)
    print('seconds from start to end:', took)
    assert max(took.values()) < 3


def test_without_onnxruntime_one_sentence(here):
    picture(0).save(here/'a.png')
    res = python('import sys\nsys.modules["onnxruntime"] = None\nfrom foprokd.deploy.predict import foprokd_predict\nfoprokd_predict(["student.onnx", "a.png"])\n', here, fresh=True)
    assert res.returncode == 2 and 'pip install onnxruntime' in res.stderr and res.stderr.count('\n') == 1


@pytest.mark.long
def test_in_an_environment_with_onnxruntime_numpy_and_pillow_alone(here, source_copy, tmp_path):
    build = [sys.executable, '-m', 'build', '--wheel', '--no-isolation', '--outdir', str(tmp_path/'dist'), str(source_copy)]
    res = subprocess.run(build, capture_output=True, text=True, timeout=300)
    assert res.returncode == 0, (res.stdout + res.stderr)[-3000:]
    [wheel] = (tmp_path/'dist').glob('*.whl')
    venv.create(tmp_path/'fresh', with_pip=True)
    bin_, env = tmp_path/'fresh'/'bin', {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}

    def call(*args): return subprocess.run(list(map(str, args)), cwd=here, env=env, capture_output=True, text=True, timeout=600)
    res = call(bin_/'python', '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', 'onnxruntime', 'numpy', 'pillow')
    if res.returncode and any(o in res.stderr for o in ('No matching distribution', 'Could not find a version', 'connection', 'Temporary failure')):
        pytest.skip(f'pip reaches no index: {res.stderr.strip().splitlines()[-1]}')
    assert res.returncode == 0, res.stderr
    assert call(bin_/'python', '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-deps', wheel).returncode == 0
    for i in range(6): picture(i).save(here/f'{i}.png')
    res = call(bin_/'foprokd_predict', 'student.onnx', *(here/f'{i}.png' for i in range(6)), '--csv', 'out.csv')
    assert res.returncode == 0 and res.stderr == f'foprokd_predict: 6 of 6 images predicted.\n{SURE}', res.stderr
    assert [r['class'] for r in table((here/'out.csv').read_text())] == NAMES * 2
    assert call(bin_/'python', '-c', 'import torch').returncode == 1
