"""Changed files for every reader: each has to be read, or refused in one sentence of the house, soon and in little memory.

    python tools/fuzz.py --n 100000 --workers 4      # what the nightly workflow does; the tests try 2,000
    python tools/fuzz.py --kinds onnx --only 123     # one file again, kept in the folder that --keep names

Files that the package has written are changed in bytes, and, so that more is reached than checksums and brackets, in what they hold: notes of
students, arrays, chunks of PNG. A process reads them one after another. What fails: an error of another kind than is documented, a sentence of
several lines, code of others that speaks instead of ours, a process that dies, `SECONDS` without an answer, and more than `ROOM` MiB."""
import argparse
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
FROZEN = ROOT/'tests'/'frozen'
SECONDS, ROOM = 60, 400


# -------------------------------------------------------------------------------------------------------------- seeds
def _picture(side=24, seed=0):
    "A small RGB array"
    return (np.random.default_rng(seed).random((side, side, 3)) * 255).astype(np.uint8)


def _saved(array, form, mode='RGB', **kwargs):
    "An image file as bytes"
    out = BytesIO()
    (Image.fromarray(array) if mode is None else Image.fromarray(array).convert(mode)).save(out, form, **kwargs)
    return out.getvalue()


def _npz():
    "A file as MedMNIST publishes it, of seven images"
    rng, parts = np.random.default_rng(0), {}
    for part in ('train', 'val', 'test'):
        parts[f'{part}_images'] = rng.integers(0, 255, (7, 28, 28, 3), dtype=np.uint8)
        parts[f'{part}_labels'] = np.arange(7, dtype=np.uint8)[:, None]
    out = BytesIO()
    np.savez_compressed(out, **parts)
    return out.getvalue()


def _predictions():
    "Test predictions, as a run writes them"
    out = BytesIO()
    np.savez_compressed(out, probs=np.eye(4, 3), targs=np.arange(4) % 3, images=np.array(list('abcd')), classes=np.array(list('xyz')), counts=[3, 2, 1], group_counts=[3, 2, 1], settings_hash='0a', data_hash='1b')
    return out.getvalue()


def _map():
    "A sensitivity map, as its `save` writes it"
    from foprokd.frequency.sensitivity import SensitivityMap
    with tempfile.TemporaryDirectory() as d:
        SensitivityMap(torch.rand(2, 8, 5).numpy(), torch.rand(2, 8, 5).numpy(), torch.rand(2).numpy(), np.ones((8, 5), bool), 8, .1, 'a').save(Path(d)/'a.safetensors')
        return (Path(d)/'a.safetensors').read_bytes()


def seeds():
    "Kind -> good files of the package as bytes"
    kept = max((p for p in FROZEN.iterdir() if re.fullmatch(r'\d+(\.\d+)+', p.name)), key=lambda p: tuple(map(int, p.name.split('.'))))
    small, deep = _picture(), (_picture()[..., 0].astype(np.uint16) * 257)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    rows = [f'{c}{i}.png,{c},l{i // 2}' for c in 'ab' for i in range(4)]
    names = ','.join(['image', *'MEL NV BCC AK BKL DF VASC SCC UNK'.split()])
    return dict(
        onnx=[(kept/'student.onnx').read_bytes()],
        safetensors=[(kept/'student.safetensors').read_bytes(), (kept/'prompt.safetensors').read_bytes(), _map()],
        png=[_saved(small, 'PNG'), _saved(small, 'PNG', 'P', transparency=3), _saved(small, 'PNG', 'RGBA'), _saved(deep, 'PNG', None),
             _saved(small, 'PNG', 'LA'), _saved(small, 'PNG', exif=rotated)],
        jpeg=[_saved(small, 'JPEG'), _saved(small, 'JPEG', progressive=True, exif=rotated), _saved(small, 'JPEG', 'CMYK'), _saved(small, 'JPEG', 'L', restart_marker_rows=1)],
        csv=['\n'.join(['image,label,lesion_id', *rows, '']).encode(), '\n'.join(['image;label;group', *(o.replace(',', ';') for o in rows), '']).encode(),
             '\n'.join([names, *(f'ISIC_000000{i},' + ','.join('1.0' if j == i else '0.0' for j in range(9)) for i in range(8)), '']).encode(),
             '\n'.join(['image,finding,lesion_id', *(f'ISIC_000000{i},{i},IL_{i}' for i in range(8)), '']).encode(),
             '\n'.join(['file-name;class-name;split-index', *(f'{i}.jpg;{"polyp" if i % 2 else "cecum"};{i % 5}' for i in range(10)), '']).encode(),
             '\n'.join(['measure,low,high,gain,value,lower,upper', *(f'cosine,{i / 8},{(i + 1) / 8},1.0,0.5,0.4,0.6' for i in range(4)), '']).encode()],
        npz=[_npz(), _npz(), _predictions()],
        pth=[(kept/'learner.pth').read_bytes()],
        jsonl=[(kept/'run_results.jsonl').read_bytes()],
        yaml=[b'seeds: [0, 1]\nshared: {data: demo, student: test_resnet}\nruns:\n  - method: [ekd, kd]\n  - {method: bsm, name: "b {lr}", lr: 1.0e-3}\n'])


# ------------------------------------------------------------------------------------------------------------- changes
ODD = [b'', b'\0', b'\xff' * 4, b'\n', b'"', b',', b';', b'../', b'1e999', b'-1', b'9' * 400, b'nan', b'\xef\xbb\xbf', b'\x7f\xff\xff\xff', b'\xff' * 8, b'A' * 3000, b'[' * 500]
LEAVES = [None, True, -1, 0, 10**9, 10**400, 1e308, float('nan'), '', 'a', 'a' * 2000, [], [[]], {}, {'a': 1}, [1] * 300, [None], '\u0000', '\ud800', 'x/../../y', 1.5, [-1, -1]]


def _bytes(rng, b):
    "A few changes of bytes"
    b = bytearray(b)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        n = len(b)
        if not n: break
        i = rng.choice([rng.randrange(n), min(int(rng.expovariate(1 / 60)), n - 1), max(n - 1 - int(rng.expovariate(1 / 60)), 0)])
        m = min(int(rng.expovariate(1 / 8)) + 1, n - i)
        how = rng.randrange(8)
        if how == 0: b[i] ^= 1 << rng.randrange(8)
        elif how == 1: b[i] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
        elif how == 2: b[i:i + m] = rng.choice(ODD)
        elif how == 3: b[i:i] = rng.choice([rng.randbytes(m), b[i:i + m] * rng.choice([1, 2, 50])])
        elif how == 4: del b[i:i + rng.choice([m, m * 20])]
        elif how == 5: b[i:i + 4] = struct.pack(rng.choice('<>') + 'I', rng.choice([0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1]))
        elif how == 6: b[i:i + 8] = struct.pack(rng.choice('<>') + 'Q', rng.choice([0, 2**32, 2**63 - 1, 2**63, 2**64 - 1, rng.randrange(2**64)]))
        else: del b[rng.choice([i, n - m]):]
    return bytes(b)


def _leaf(rng, o):
    "Plain data with one value that is another, gone, or come twice"
    if isinstance(o, dict) and o and rng.random() < .85:
        k = rng.choice([*o])
        how = rng.random()
        if how < .1: return {a: v for a, v in o.items() if a != k}
        if how < .15: return {**o, rng.choice(['extra', '', k + ' ', 'a' * 300]): rng.choice(LEAVES)}
        return {**o, k: _leaf(rng, o[k])}
    if isinstance(o, list) and o and rng.random() < .6:
        i = rng.randrange(len(o))
        return [*o[:i], *([] if rng.random() < .15 else [_leaf(rng, o[i])]), *o[i + (rng.random() < .9):]]
    return rng.choice(LEAVES)


def _note(rng, text):
    "JSON text with a value that does not belong there"
    for _ in range(rng.choice([1, 1, 2])): text = json.dumps(_leaf(rng, json.loads(text)))
    return text


def _onnx(rng, b):
    "Another note, size, name or operator"
    import onnx
    m = onnx.load_from_string(b)
    for _ in range(rng.choice([1, 1, 2, 3])):
        node, tensor = rng.choice(m.graph.node), rng.choice(m.graph.initializer)
        how = rng.randrange(10)
        if how < 3:
            entry = rng.choice(m.metadata_props)
            if entry.value: entry.value = _note(rng, entry.value) if entry.key == 'foprokd' else rng.choice(['', 'a' * 99, '{'])
        elif how == 3 and tensor.dims: tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice([-1, 0, 1, 2, 7, 2**31, 2**40, 2**62])
        elif how == 4: node.op_type = rng.choice([*{o.op_type for o in m.graph.node}, 'Loop', 'If', 'Nothing', 'ConstantOfShape', 'Tile', 'Expand', 'Range'])
        elif how == 5 and node.input: node.input[rng.randrange(len(node.input))] = rng.choice(['', 'images', 'prior', *(o.name for o in m.graph.initializer), *(o.output[0] for o in m.graph.node)])
        elif how == 6 and tensor.raw_data: tensor.raw_data = _bytes(rng, tensor.raw_data)
        elif how == 7 and node.attribute:
            a = rng.choice(node.attribute)
            if a.ints: a.ints[rng.randrange(len(a.ints))] = rng.choice([-1, 0, 2, 99, 2**31, 2**62])
            else: a.i = rng.choice([-1, 0, 2, 99, 2**62])
        elif how == 8:
            shape = rng.choice([*m.graph.input, *m.graph.output]).type.tensor_type
            if rng.random() < .5: shape.elem_type = rng.randrange(24)
            elif shape.shape.dim: shape.shape.dim[rng.randrange(len(shape.shape.dim))].dim_value = rng.choice([-1, 0, 1, 3, 2**40])
        else: m.ir_version, m.opset_import[0].version = rng.choice([(m.ir_version, 99), (99, 18), (0, 0), (m.ir_version, 1)])
    return m.SerializeToString()


def _safetensors(rng, b):
    "Another header or note"
    n = struct.unpack('<Q', b[:8])[0]
    head, how = json.loads(b[8:8 + n]), rng.random()
    if how < .6: head['__metadata__']['foprokd'] = _note(rng, head['__metadata__']['foprokd'])
    elif how < .9: head = _leaf(rng, head)
    if how >= .9: raw = _bytes(rng, b[8:8 + n])
    else: raw = json.dumps(head).encode()
    return struct.pack('<Q', len(raw)) + raw + b[8 + n:]


def _png(rng, b):
    "Chunks with other contents or another order, and sums that fit"
    at, chunks = 8, []
    while at < len(b):
        n = struct.unpack('>I', b[at:at + 4])[0]
        chunks.append([b[at + 4:at + 8], b[at + 8:at + 8 + n]])
        at += 12 + n
    c = rng.choice(chunks)
    how = rng.randrange(5)
    if how == 0: c[0] = rng.choice([b'tRNS', b'PLTE', b'zTXt', b'iTXt', b'eXIf', b'iCCP', b'acTL', b'fcTL', b'fdAT', b'gAMA', b'pHYs'])
    elif how == 1: chunks.insert(rng.randrange(len(chunks)), list(rng.choice(chunks)))
    elif how == 2: chunks.insert(1, [rng.choice([b'tRNS', b'zTXt', b'iTXt', b'iCCP', b'eXIf', b'acTL', b'fcTL', b'pHYs']), rng.choice([b'', b'a\0\0' + zlib.compress(bytes(10**6)), rng.randbytes(26), b'\0' * 8])])
    elif c[0] == b'IDAT' and how == 3: c[1] = zlib.compress(_bytes(rng, zlib.decompress(c[1])))
    else: c[1] = _bytes(rng, c[1])
    return b[:8] + b''.join(struct.pack('>I', len(d)) + k + d + struct.pack('>I', zlib.crc32(k + d)) for k, d in chunks)


def _archive(rng, b):
    "An archive with a member that is another, gone, or come twice"
    out = BytesIO()
    with zipfile.ZipFile(BytesIO(b)) as z: parts = {i.filename: z.read(i) for i in z.infolist()}
    name = rng.choice([*parts])
    how = rng.random()
    if how < .1: del parts[name]
    elif how < .2: parts[name] = parts[rng.choice([*parts])]
    elif how < .3: parts[rng.choice([name + 'x', '../x.npy', ''])] = b''
    elif how < .6 and name.endswith('.npy'):
        kinds = [np.zeros(0), np.zeros((7, 28, 28, 3)), np.arange(7.), np.array(['a'] * 7), np.full((7, 1), 9), np.array(1), np.zeros((7, 1), complex), np.full((7, 1), np.nan), np.zeros((7, 28, 0), np.uint8),
                 np.zeros((7, 2, 3), np.uint8, order='F'), np.zeros((7, 1), 'M8[s]'), np.zeros(7, [('a', 'u1')]), np.zeros((0, 28, 28), np.uint8), np.zeros((7, 28, 28, 4), np.uint8)]
        array = BytesIO()
        np.save(array, rng.choice(kinds))
        parts[name] = array.getvalue()
    else: parts[name] = _bytes(rng, parts[name])
    with warnings.catch_warnings(), zipfile.ZipFile(out, 'w', rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as z:
        warnings.simplefilter('ignore')
        for k, v in parts.items(): z.writestr(k, v)
    return out.getvalue()


def _lines(rng, b):
    "Rows and fields with other contents"
    text, sep = b.split(b'\n'), rng.choice([b',', b';', b'\t'])
    i = rng.randrange(len(text))
    fields = text[i].split(sep)
    j, how = rng.randrange(len(fields)), rng.randrange(5)
    if how == 0: fields[j] = rng.choice(ODD)
    elif how == 1: fields *= rng.choice([0, 2, 3])
    elif how == 2: text.insert(rng.randrange(len(text)), rng.choice(text))
    elif how == 3: fields[j] = rng.choice(rng.choice(text).split(sep))
    else: fields[j] = fields[j] + rng.choice([b' ', b'"', b'\r', b'\0', b'\xa0', '\u200b'.encode(), b'.0', b'e5'])
    text[i] = sep.join(fields)
    return b'\n'.join(text)


def _row(rng, b): return _note(rng, b).encode('utf-8', 'surrogatepass') + b'\n'


CHANGES = dict(onnx=_onnx, safetensors=_safetensors, png=_png, npz=_archive, pth=_archive, csv=_lines, yaml=_lines, jsonl=_row)


def changed(kind, i, seed, good):
    "File number `i` of a kind; the same on every machine"
    rng = random.Random(f'{seed} {kind} {i}')
    b = rng.choice(good[kind])
    for _ in range(rng.choice([1, 1, 2])):
        inside = kind in CHANGES and rng.random() < .6
        try: b = CHANGES[kind](rng, b) if inside else _bytes(rng, b)
        except Exception: b = _bytes(rng, b)  # what an earlier change left is no such file any more
    return b, rng.randrange(2**16)


# ------------------------------------------------------------------------------------------------------------- readers
class Readers:
    "What the package opens, by the kind of file; `folder` holds good files beside which the changed one lies"
    def __init__(self, folder, good):
        from foprokd import backbone, loading
        from foprokd.data import images, isic, kvasir, labels, medmnist, scan, tables
        from foprokd.deploy import onnx_student, predict
        from foprokd.frequency import atlas, sensitivity
        from foprokd.measure import lost, results
        from foprokd.prompt import FourierPromptGenerator
        from foprokd.student import load_student
        from foprokd.study import grid
        from foprokd.teacher import FrozenTeacher
        self.folder, sound = folder, folder/'sound'
        sound.mkdir()
        (sound/'student.onnx').write_bytes(good['onnx'][0])
        for c in 'ab':
            for i in range(4): (folder/f'{c}{i}.png').write_bytes(good['png'][0])
        self.picture, self.net = str(folder/'a0.png'), backbone.create_backbone('test_resnet')
        student, stated = onnx_student.OnnxStudent(sound/'student.onnx', threads=1), self.stated
        command = predict.foprokd_predict
        self.of = dict(
            onnx=[lambda f: [*onnx_student.OnnxStudent(f, threads=1).predict([self.picture])], lambda f: onnx_student.OnnxStudent(f, threads=1, temperature=2.).logits(np.zeros((1, 64, 64, 3), np.uint8)),
                  lambda f: self.exits(command, [f, self.picture, '--threads', '1']), lambda f: self.exits(command, [f, '--about'])],
            safetensors=[loading.read_checkpoint, load_student, FrozenTeacher, FourierPromptGenerator.from_file, sensitivity.SensitivityMap.load,
                         lambda f: backbone.create_backbone('test_resnet', ckpt=f), FourierPromptGenerator(hidden=8).load],
            pth=[loading.read_checkpoint, lambda f: backbone.create_backbone('test_resnet', ckpt=f)],
            csv=[lambda f: labels.read_labels(f, bad=None), tables.read_table, lambda f: labels.read_labels(f, group_col='lesion_id', bad=None),
                 lambda f: isic.isic2019_lt(self.named(f, 'ISIC_2019_Training_GroundTruth.csv'), protocol='regenerated', missing='drop'),
                 lambda f: isic.isic2019_lt(self.named(f, 'train_skin1_0.01.csv', 'val_skin1_0.01.csv', 'test_skin1_0.01.csv', 'labels.csv'), missing='drop'),
                 lambda f: kvasir.hyper_kvasir(self.named(f, '5_fold_split.csv'), missing='drop'), atlas._read_bands, lambda f: labels.read_labels(f, bad='refuse', workers=0)],
            npz=[lambda f: medmnist.medmnist_set('dermamnist', self.named(f, 'dermamnist.npz')), lost.read_predictions],
            jsonl=[lambda f: results.label_runs(results.load_results(f))],
            yaml=[grid.read_grid])
        self.of['png'] = self.of['jpeg'] = [images.open_rgb, lambda f: stated(student.predict([f])), lambda f: stated([scan.inspect_file(f)]), student.open,
                                            lambda f: self.exits(command, [sound/'student.onnx', f, '--threads', '1'])]

    def named(self, file, *names):
        "A folder that holds the file under other names, and nothing else"
        at = self.folder/'named'
        shutil.rmtree(at, ignore_errors=True)
        at.mkdir()
        for n in names: shutil.copy(file, at/n)
        return at

    def stated(self, rows):
        "Rows with a remark instead of an error, each on one line"
        for r in rows: assert '\n' not in f"{r.get('error', '')}{r.get('detail', '')}", r

    def exits(self, command, words):
        "A command that leaves with the code it should: 0, 1 for images that could not be read, 2 for one sentence"
        out, err = sys.stdout, sys.stderr
        with open(self.folder/'out', 'w') as o, open(self.folder/'err', 'w') as e:
            sys.stdout, sys.stderr = o, e
            try: command([str(w) for w in words])
            except SystemExit as left: code = left.code
            finally: sys.stdout, sys.stderr = out, err
        said = (self.folder/'err').read_text()
        assert code in (0, 1, 2) and 'Traceback' not in said, f'left with {code}: {said[-300:]}'
        assert code != 2 or len(said.strip().splitlines()) == 1, f'several lines: {said[-300:]}'


def verdict(e):
    "'' for an error as it should be, else what is wrong with it"
    said, last = str(e), traceback.extract_tb(e.__traceback__)[-1]
    where = f'{Path(last.filename).name}:{last.lineno}'
    if not isinstance(e, (ValueError, OSError)): return f'{type(e).__name__} at {where}: {said[:200]}'
    if '\n' in said or len(said) > 1000: return f'{type(e).__name__} of {len(said.splitlines())} lines, {len(said)} characters at {where}: {said[:200]}'
    ours = str(ROOT/'foprokd') in last.filename or isinstance(e, OSError)
    return '' if ours else f'{type(e).__name__} of others at {where}: {said[:200]}'


def _high():
    "Most memory that this process had since `_fresh`, MiB"
    return int(next(o for o in Path('/proc/self/status').read_text().splitlines() if o.startswith('VmHWM')).split()[1]) / 1024


def _fresh():
    "Count memory anew"
    Path('/proc/self/clear_refs').write_text('5')


def _printed(out):
    "What a reader, or a library below it, wrote to stdout, where a command prints its table"
    sys.stdout.flush()
    out.seek(0)
    text = out.read()
    out.seek(0)
    out.truncate()
    return text


def work(plan, seed, good, pipe, folder):
    "Read the files of the plan one after another, and say of each what came of it"
    signals = Path('/proc/self/clear_refs').exists()
    os.environ.update(FOPROKD_CACHE=str(folder/'facts'), HF_HUB_OFFLINE='1')
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    readers = Readers(folder, good)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = open(folder/'stdout', 'w+b', buffering=0)
    os.dup2(out.fileno(), 1)
    sys.stdout = open(1, 'w', closefd=False)
    for kind, i in plan:
        b, dice = changed(kind, i, seed, good)
        mine = readers.of[kind]
        file = folder/f'odd.{kind}'
        file.write_bytes(b)
        pipe.send(('began', kind, i))
        if signals: _fresh()
        before, came = _high() if signals else 0, 'read'
        try: mine[dice % len(mine)](file)
        except (Exception, SystemExit) as e: came = verdict(e) or 'refused'
        grown = _high() - before if signals else 0
        if grown > ROOM: came = f'{grown:.0f} MiB'
        if said := _printed(out): came = f'printed {said[:60]!r}'
        pipe.send(('ended', kind, i, f'reader {dice % len(mine)}: {came}' if came not in ('read', 'refused') else came))
    pipe.send(('done', '', 0))


class Worker:
    "A process that reads files, and another one where that one hung or died"
    def __init__(self, plan, seed, good):
        self.plan, self.seed, self.good, self.found, self.count = plan, seed, good, [], Counter()
        self.start()

    def start(self):
        self.folder = Path(tempfile.mkdtemp(prefix='fuzz_'))
        self.pipe, other = multiprocessing.get_context('fork').Pipe(duplex=False)
        self.proc = multiprocessing.get_context('fork').Process(target=work, args=(self.plan, self.seed, self.good, other, self.folder), daemon=True)
        self.proc.start()
        other.close()
        self.now, self.since = None, time.monotonic() + 60  # it has to import first

    def step(self):
        "Take what it says; False when it has done all"
        try:
            while self.pipe.poll():
                what, kind, i, *came = self.pipe.recv()
                if what == 'done': return self.end()
                self.now, self.since = (kind, i) if what == 'began' else None, time.monotonic()
                if what == 'ended': self.note(kind, i, *came)
        except EOFError: return self.again(f'the process died ({self.proc.exitcode})')
        if time.monotonic() - self.since > SECONDS: return self.again(f'no answer in {SECONDS} s')
        return True

    def note(self, kind, i, came):
        self.count[came if came in ('read', 'refused') else 'failed'] += 1
        if came not in ('read', 'refused'): self.found.append((kind, i, came))
        self.plan = self.plan[1:]

    def again(self, why):
        "A new process for the files that are left"
        self.end()
        if self.now is None: raise RuntimeError(f'before any file: {why}')
        self.note(*self.now, why)
        if self.plan: self.start()
        return bool(self.plan)

    def end(self):
        self.proc.kill()
        self.proc.join()
        shutil.rmtree(self.folder, ignore_errors=True)
        return False


def fuzz(
    n:int=2000, # Files in all
    seed:int=0, # Of the changes
    kinds=None, # Some of `seeds()`; None: all
    workers:int=1, # Processes
    say=lambda text: None # Where progress goes
)->tuple[Counter, list]: # Files that were read, refused, failed; kind, number, reader and reason of the failed ones
    "Change files, and read them"
    good = seeds()
    kinds = kinds or [*good]
    plan = [(k, i) for i in range(-(-n // len(kinds))) for k in kinds][:n]
    pool, began = [Worker(plan[w::workers], seed, good) for w in range(workers)], time.monotonic()
    alive, told = list(pool), began
    while alive:
        alive = [w for w in alive if w.step()]
        time.sleep(.02)
        if time.monotonic() - told > 60:
            told = time.monotonic()
            say(f'{sum((w.count for w in pool), Counter()).total()} of {n} files in {told - began:.0f} s')
    return sum((w.count for w in pool), Counter()), [o for w in pool for o in w.found]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--n', type=int, default=2000, help='files in all')
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--kinds', nargs='*')
    p.add_argument('--workers', type=int, default=1)
    p.add_argument('--only', type=int, help='one file of one kind, read in this process: its error is raised')
    p.add_argument('--keep', type=Path, default=Path(), help='where --only leaves the file')
    a = p.parse_args()
    if a.only is not None:
        good, [kind] = seeds(), a.kinds
        b, dice = changed(kind, a.only, a.seed, good)
        with tempfile.TemporaryDirectory() as d:
            readers = Readers(Path(d), good)
            file = a.keep/f'odd.{kind}'
            file.write_bytes(b)
            print(f'{file}: reader {dice % len(readers.of[kind])}')
            print(repr(readers.of[kind][dice % len(readers.of[kind])](file))[:500])
        return
    began = time.monotonic()
    count, found = fuzz(a.n, a.seed, a.kinds, a.workers, lambda text: print(text, flush=True))
    for kind, i, came in found: print(f'python tools/fuzz.py --seed {a.seed} --kinds {kind} --only {i}  # {came}')
    print(f'{count.total()} files in {time.monotonic() - began:.0f} s: ' + ', '.join(f'{v} {k}' for k, v in sorted(count.items())))
    sys.exit(bool(found))


if __name__ == '__main__': main()
