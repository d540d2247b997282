"""Hostile and broken files against every reader: one sentence each, no code run, little memory, no waiting.

Each reader meets each file in a second process that is killed after `SECONDS` and may grow by no more than `ROOM` MiB
beyond what it needs for the good file of the same kind."""
import json
import multiprocessing
import os
import pickle
import resource
import sqlite3
import struct
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from conftest import python
from foprokd.frequency.atlas import frequency_atlas
from foprokd.backbone import check_weights_file, create_backbone, read_checkpoint
from foprokd.data.labels import read_labels
from foprokd.study.grid import read_grid
from foprokd.prompt import FourierPromptGenerator
from foprokd.measure.results import label_runs, load_results
from foprokd.measure.rows import append_row, pack_ints
from foprokd.data.scan import scan_images
from foprokd.frequency.sensitivity import SensitivityMap
from foprokd.student import Student, load_student
from foprokd.teacher import FrozenTeacher

ROOM, SECONDS = 300, 60


# ---------------------------------------------------------------------------------------------------------- good files
def net(): return Student('test_resnet', 3)


def student_note(**more): return dict(arch='test_resnet', num_classes=3, vocab=list('abc'), mean=[.5] * 3, std=[.2] * 3, **more)


def weights(): return {k: v.contiguous().clone() for k, v in net().deploy().state_dict().items()}


def write(file, sd=None, note=None, **more):
    "A safetensors file of weights and a note"
    save_file(weights() if sd is None else sd, file, metadata={'foprokd': note if isinstance(note, str) else json.dumps({**(note or student_note()), **more})})


def write_map(file, **change):
    "A file of a sensitivity map"
    arrays = dict(cosine=torch.rand(2, 8, 5), l2=torch.rand(2, 8, 5), norm=torch.rand(2), measured=torch.ones(8, 5).bool())
    notes = dict(kind='SensitivityMap', width=8, eps=.1, name='a', group=None)
    arrays |= {k: v for k, v in change.items() if k in arrays}
    save_file(arrays, file, metadata={'foprokd': json.dumps({**notes, **{k: v for k, v in change.items() if k not in arrays}})})


def write_prompt(file, sd=None, **settings):
    "A file of a prompt"
    p = FourierPromptGenerator(hidden=8)
    note = dict(prompt='FourierPromptGenerator', settings={**p.settings, **settings})
    save_file(p.state_dict() if sd is None else sd(p.state_dict()), file, metadata={'foprokd': json.dumps(note)})


# ------------------------------------------------------------------------------------------------------------- readers
def read_pth(file): return read_checkpoint(file)


def fill(file): return create_backbone('test_resnet', ckpt=file)


def teacher(file): return FrozenTeacher('test_resnet', ckpt=file, size=32)


def described_teacher(file): return FrozenTeacher(file)


def prompt_from_file(file): return FourierPromptGenerator.from_file(file)


def prompt_load(file): return FourierPromptGenerator(hidden=8).load(file)


def sensitivity(file): return SensitivityMap.load(file)


def student(file): return load_student(file)


def student_start(file): return Student('test_resnet', 3, ckpt=file)


def results(file): return label_runs(load_results(file))


def labels(file): return read_labels(file)


def grid(file): return read_grid(file)


# ------------------------------------------------------------------------------------------------------- hostile files
class Call:
    "Pickles as a call"
    def __init__(self, *what): self.what = what
    def __reduce__(self): return self.what[0], self.what[1:]


def touch(path): Path(path).write_text('code ran')


def as_zip(file, data):
    "What `torch.save` would write around a pickle"
    with zipfile.ZipFile(file, 'w') as z:
        for name, what in (('a/data.pkl', data), ('a/version', b'3\n'), ('a/byteorder', b'little')): z.writestr(name, what)


def canary(file): return str(file) + '.canary'


def pickle_in_zip(f): torch.save({'state_dict': {'a': Call(touch, canary(f))}}, f)
def pickle_in_old_format(f): torch.save({'a': Call(touch, canary(f))}, f, _use_new_zipfile_serialization=False)
def bare_pickle(f): f.write_bytes(pickle.dumps({'a': Call(touch, canary(f))}))
def pickle_of_system(f): f.write_bytes(b'cos\nsystem\n(S' + repr(f'touch {canary(f)}').encode() + b'\ntR.')
def build_of_class(f): f.write_bytes(b'\x80\x02ccollections\nOrderedDict\n)R}X\x01\x00\x00\x00acos\nsystem\n' + f'X{chr(9)}\0\0\0touch abc\x85R'.encode() + b'sb.')


def torchscript(f):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(f))


def zip_bomb(f):
    big = f.with_suffix('.big')
    torch.save({'w': torch.zeros(100_000_000)}, big)
    with zipfile.ZipFile(big) as z, zipfile.ZipFile(f, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as o:
        for i in z.infolist():
            with z.open(i) as src, o.open(i.filename, 'w', force_zip64=True) as dst:
                while part := src.read(2**22): dst.write(part)
    big.unlink()


def overlapping_zip(f):
    "Twenty directory entries for one stored member of 40 MB: the file is 40 MB and claims 800"
    with zipfile.ZipFile(f, 'w') as z:
        z.writestr('a/data.pkl', pickle.dumps({}, protocol=2)); z.writestr('a/data/0', bytes(40_000_000))
        info = z.getinfo('a/data/0')
        for i in range(1, 20):
            twin = zipfile.ZipInfo(f'a/data/{i}')
            twin.header_offset, twin.file_size, twin.compress_size, twin.CRC = info.header_offset, info.file_size, info.compress_size, info.CRC
            z.filelist.append(twin); z.NameToInfo[twin.filename] = twin


def zip_with_comment(f):
    torch.save({'w': torch.zeros(3)}, f)
    with zipfile.ZipFile(f, 'a') as z: z.comment = b'PK\x05\x06' + bytes(18)


def pickle_bomb(f):
    with zipfile.ZipFile(f, 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('a/data.pkl', bytes(4 * 10**8)); z.writestr('a/version', '3\n')


def bytearray_in_zip(f): as_zip(f, pickle.dumps({'w': Call(bytearray, 10**9)}, protocol=2))
def bytearray_in_old_format(f): torch.save({'w': Call(bytearray, 1)}, f, _use_new_zipfile_serialization=False); f.write_bytes(f.read_bytes().replace(b'K\x01\x85', b'J\xff\xff\xff\x6f\x85'))
def empty_tensor_of_terabytes(f): as_zip(f, pickle.dumps({'w': Call(torch.Tensor, 10**6, 10**6)}, protocol=2))
def one_number_as_many(f): torch.save({'w': torch.zeros(1).expand(10**10)}, f)
def overlapping_views(f): torch.save({str(i): torch.zeros(10**6).as_strided((10**6, 9), (1, 0)) for i in range(3)}, f)


def short_record(f):
    torch.save({'w': torch.zeros(10**6)}, f)
    with zipfile.ZipFile(f) as z: parts = {i.filename: z.read(i) for i in z.infolist()}
    with zipfile.ZipFile(f, 'w') as z:
        for k, v in parts.items(): z.writestr(k, b'\0' * 40 if k.endswith('data/0') else v)


def old_format_that_lies(f):
    torch.save({'w': torch.zeros(10)}, f, _use_new_zipfile_serialization=False)
    f.write_bytes(f.read_bytes()[:-40])


def sparse(f): torch.save({'w': torch.eye(3).to_sparse()}, f)
def sparse_csr(f):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.save({'w': torch.eye(3).to_sparse_csr()}, f)
def quantised(f): torch.save({'w': torch.quantize_per_tensor(torch.ones(3), .1, 0, torch.quint8)}, f)
def meta(f): torch.save({'w': torch.empty(10**12, device='meta')}, f)
def complex_weights(f): torch.save({k: v.to(torch.complex64) for k, v in weights().items()}, f)
def list_of_numbers(f): torch.save([1, 2], f)
def one_tensor(f): torch.save(torch.ones(3), f)
def strings(f): torch.save({'a': 'b'}, f)
def empty_dict(f): torch.save({}, f)
def number_keys(f): torch.save({1: torch.ones(2)}, f)
def state_dict_of_text(f): torch.save({'state_dict': 'none'}, f)
def png(f): f.write_bytes(b'\x89PNG\r\n\x1a\n' + bytes(range(256)) * 4)
def empty(f): f.write_bytes(b'')
def folder(f): f.mkdir()
def pipe(f): os.mkfifo(f)
def absent(f): pass
def dangling_link(f): f.symlink_to(f.parent/'nowhere')
def device_file(f): f.symlink_to('/dev/zero')
def text(f): f.write_text('not weights')
def newline_in_name(f): text(f)


def cut_zip(f): torch.save(weights(), f); f.write_bytes(f.read_bytes()[:-300])
def cut_in_the_middle(f): torch.save(weights(), f); f.write_bytes(f.read_bytes()[:5000])
def zeroed(f): torch.save(weights(), f); f.write_bytes(f.read_bytes()[:4] + bytes(f.stat().st_size - 4))


STRANGE = [folder, pipe, absent, dangling_link, device_file, png, empty, text]
PTH = [pickle_in_zip, pickle_in_old_format, bare_pickle, pickle_of_system, build_of_class, torchscript, zip_bomb, overlapping_zip, zip_with_comment, pickle_bomb,
       bytearray_in_zip, bytearray_in_old_format, empty_tensor_of_terabytes, one_number_as_many, overlapping_views, short_record, old_format_that_lies, sparse,
       sparse_csr, quantised, meta, complex_weights, list_of_numbers, one_tensor, strings, empty_dict, number_keys, state_dict_of_text, cut_zip, cut_in_the_middle, zeroed]


def header(f, entries, data=b'', size=None):
    "A safetensors file by hand"
    raw = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    f.write_bytes(struct.pack('<Q', len(raw) if size is None else size) + raw + data)


def entry(shape, start=0, end=4, dtype='F32'): return dict(dtype=dtype, shape=shape, data_offsets=[start, end])
def st_pickle(f): f.write_bytes(pickle.dumps({'a': Call(touch, canary(f))}))
def st_zip(f): pickle_in_zip(f)
def st_bomb(f): pickle_bomb(f)
def st_giant_header(f): header(f, {'w': entry([1])}, size=2**62)
def st_header_of_90_mb_missing(f): header(f, {'w': entry([1])}, size=90_000_000)
def st_huge_tensor(f): header(f, {'w': entry([10**12], 0, 4 * 10**12)}, bytes(8))
def st_shape_beyond_data(f): header(f, {'w': entry([10**9])}, bytes(4))
def st_shape_overflow(f): header(f, {'w': entry([2**62, 2**62], 0, 0)})
def st_overlap(f): header(f, {'a': entry([1]), 'b': entry([1])}, bytes(4))
def st_gap(f): header(f, {'a': entry([1], 400, 404)}, bytes(404))
def st_negative(f): header(f, {'a': entry([-1], 0, 4)}, bytes(4))
def st_twice_the_key(f): header(f, b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4))
def st_deep_header(f): header(f, b'{"a":' * 100_000 + b'1' + b'}' * 100_000)
def st_header_of_text(f): header(f, b'no json at all')
def st_unknown_type(f): header(f, {'w': entry([1], dtype='F99')}, bytes(4))
def st_cut(f): write(f); f.write_bytes(f.read_bytes()[:-100])
def st_cut_in_header(f): write(f); f.write_bytes(f.read_bytes()[:40])
def st_more_behind(f): write(f); f.write_bytes(f.read_bytes() + bytes(100))
def st_no_tensors(f): write(f, sd={})
def st_half_floats_of_8_bits(f): header(f, {'w': entry([4], dtype='F8_E4M3')}, b'\x7f' * 4)
def st_note_no_json(f): write(f, note='{torn')
def st_note_deep(f): write(f, note='[' * 200_000)
def st_note_list(f): write(f, note='[1]')
def st_note_number(f): write(f, note='1' * 5000)


SAFETENSORS = [st_pickle, st_zip, st_bomb, st_giant_header, st_header_of_90_mb_missing, st_huge_tensor, st_shape_beyond_data, st_shape_overflow, st_overlap,
               st_gap, st_negative, st_twice_the_key, st_deep_header, st_header_of_text, st_unknown_type, st_cut, st_cut_in_header, st_more_behind, st_no_tensors,
               st_half_floats_of_8_bits, st_note_no_json, st_note_deep, st_note_list, st_note_number]


def changed(f, change):
    "Good weights of a backbone, one of them changed"
    sd = weights()
    k = next(k for k in sd if k.endswith('weight') and sd[k].ndim == 4)
    sd[k] = change(sd[k])
    write(f, sd)


def w_int(f): changed(f, lambda v: v.to(torch.int32))
def w_bool(f): changed(f, lambda v: v > 0)
def w_nan(f): changed(f, lambda v: v * float('nan'))
def w_inf(f): changed(f, lambda v: v / 0)
def w_too_large(f): changed(f, lambda v: torch.full(v.shape, 1e300, dtype=torch.float64))
def w_shape(f): changed(f, lambda v: v[:1].clone())
def w_transposed(f): changed(f, lambda v: v.transpose(0, 1).contiguous().clone())
def w_flat(f): changed(f, lambda v: v.flatten())
def w_other_net(f): write(f, {k: v.contiguous() for k, v in Student('test_vit', 3, img_size=32).deploy().state_dict().items()})
def w_holes(f): write(f, {k: v for i, (k, v) in enumerate(weights().items()) if i % 3})
def w_more(f): write(f, {**weights(), 'layer9.weight': torch.ones(2)})
def w_counter_as_float(f): write(f, {k: v.float() if k.endswith('num_batches_tracked') else v for k, v in weights().items()})


VALUES = [w_int, w_bool, w_nan, w_inf, w_too_large, w_shape, w_transposed, w_flat, w_other_net, w_holes, w_more]


def noted(title, /, **note):
    "A good file with a bad note"
    def make(f): write(f, **note)
    make.__name__ = f"n_{title}"
    return make


NOTES = [noted('hub', arch='hf_hub:someone/model'), noted('folder', arch='local-dir:/etc'), noted('no_arch', arch=None), noted('arch_number', arch=7), noted('arch_long', arch='a' * 10**6),
         noted('arch_lines', arch='a\nb'), noted('larger', arch='vit_giant_patch14_dinov2'), noted('vast', arch='resnet18', kwargs=dict(layers=[60000] * 4)),
         noted('wide', arch='resnet50', kwargs=dict(width_per_group=60000)), noted('image', arch='test_vit', kwargs=dict(img_size=65000)), noted('number', kwargs=dict(drop_rate=10**9)),
         noted('path', kwargs=dict(checkpoint_path='evil.pth')), noted('pretrained', kwargs=dict(pretrained=True)), noted('url', kwargs=dict(pretrained_cfg=dict(url='http://a'))),
         noted('kwargs_list', kwargs=[1]), noted('kwargs_unknown', kwargs=dict(colour=1)), noted('kwargs_deep', kwargs=dict(drop_rate=[[[[[1]]]]])), noted('mean_text', mean='a'),
         noted('mean_nan', mean=[float('nan')] * 3), noted('mean_long', mean=[0.] * 10**5), noted('std_zero', std=0), noted('std_negative', std=[-1, 1, 1])]
TEACHER_NOTES = [noted('side', input_size=10**6), noted('side_text', input_size='big'), noted('side_negative', input_size=-3)]
STUDENT_NOTES = [noted('classes', num_classes=10**9, vocab=None), noted('classes_none', num_classes=None), noted('classes_text', num_classes='3'), noted('classes_other', num_classes=4, vocab=None),
                 noted('vocab', vocab=['a']), noted('vocab_numbers', vocab=[1, 2, 3]), noted('not_timm', arch='mobilenetv1_025_x'), noted('other_arch', arch='resnet18')]


def prompt(title, sd=None, /, **settings):
    "A bad file of a prompt"
    def make(f): write_prompt(f, sd, **settings)
    make.__name__ = f"p_{title}"
    return make


PROMPTS = [prompt('nan', lambda d: {k: v * float('nan') for k, v in d.items()}), prompt('int', lambda d: {k: v.int() for k, v in d.items()}), prompt('double', lambda d: {k: v.double() for k, v in d.items()}),
           prompt('shape', lambda d: {k: v[:1].clone() for k, v in d.items()}), prompt('none', lambda d: {'a': torch.ones(1)}), prompt('vast', z_dim=10**12), prompt('wide', hidden=10**7),
           prompt('cells', n_radius=10**6, n_angle=10**6), prompt('loud', strength=float('inf')), prompt('silent', strength=float('nan')), prompt('text', strength='1'), prompt('key', colour=1),
           prompt('mode', mode='add'), prompt('band', low=3.), prompt('overflow', n_radius=10**400)]


def map_of(title, /, **change):
    "A bad file of a map"
    def make(f): write_map(f, **change)
    make.__name__ = f"m_{title}"
    return make


MAPS = [map_of('nan', cosine=torch.full((2, 8, 5), float('nan'))), map_of('int', norm=torch.ones(2, dtype=torch.int32)), map_of('shape', l2=torch.rand(3, 8, 5)), map_of('flat', cosine=torch.rand(80)),
        map_of('half', l2=torch.rand(2, 8, 5).bfloat16()), map_of('width', width=10**9), map_of('width_text', width='8'), map_of('eps', eps='a'), map_of('eps_nan', eps=float('nan')),
        map_of('group', group=['a']), map_of('group_deep', group=[['a'], ['b', 'c']]), map_of('name', name=[1]), map_of('kind', kind='Map'), map_of('key', colour=1)]


def row(**more):
    return dict(name='a', method='ce', seed=0, fold=None, settings_hash='h', settings={}, accuracy=.5,
                predictions=dict(targs=pack_ints([0, 1]), preds=pack_ints([0, 0]), groups=None, test_hash='t')) | more


def rows_of(name, raw):
    "A bad file of results"
    def make(f):
        if isinstance(raw, bytes): f.write_bytes(raw)
        else: append_row(raw, f)
    make.__name__ = f'r_{name}'
    return make


def zipped_zeros(n):
    "Text that unpacks to `n` bytes"
    import base64, zlib
    z = zlib.compressobj(9)
    return base64.b64encode(b''.join([z.compress(bytes(2**20)) for _ in range(n >> 20)] + [z.flush()])).decode()


ROWS = [rows_of('deep', b'[' * 10**6), rows_of('binary', bytes(range(256))), rows_of('torn', b'{"seed": 1'), rows_of('list', b'[1, 2]\n'), rows_of('hash', row(settings_hash=[1])), rows_of('seed', row(seed={})),
        rows_of('settings', row(settings='a')), rows_of('name', row(name=[])), rows_of('predictions', row(predictions=dict(targs=3))), rows_of('text', row(predictions=dict(targs='a', preds='b', test_hash='c'))),
        rows_of('bomb', row(predictions=dict(targs=zipped_zeros(2**30), preds=zipped_zeros(2**30), test_hash='c')))]


def raw_file(name, raw):
    "A file of bytes"
    def make(f): f.write_bytes(raw)
    make.__name__ = name
    return make


TABLES = [raw_file('t_ragged', b'image,label\na,b,c,d\n'), raw_file('t_quote', b'image,label\n"a,b\n'), raw_file('t_latin', b'image,label\n\xff\xfe,b\n'), raw_file('t_header', b'image,label\n'),
          raw_file('t_zeros', bytes(10**6)), raw_file('t_gzip', b'\x1f\x8b' + bytes(99)), raw_file('t_devices', b'image,label\n/dev/zero,a\n/dev/stdin,b\n'),
          raw_file('t_null', b'image,label\na\0b.png,a\nc.png,b\n'), raw_file('t_columns', b'a,' * 10**5)]
GRIDS = [raw_file('g_python', b'runs: [!!python/object/apply:os.system ["touch canary"]]'), raw_file('g_deep', b'[' * 10**5), raw_file('g_tabs', b'runs:\n\t- a'), raw_file('g_latin', b'\xff\xfe\xfa'),
         raw_file('g_list', b'[1]'), raw_file('g_laughs', b'title: &a [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]\nruns: [{lam: *a, lr: *a, bs: *a, size: *a, distill: *a, explore: *a, rounds: *a, workers: *a}]'),
         raw_file('g_width', b'runs: [{name: "{lam:99999999999}"}]'), raw_file('g_attribute', b'runs: [{name: "{lam.__class__}"}]'), raw_file('g_unknown', b'runs: [{colour: 1}]'),
         raw_file('g_loop', b'runs: &a [*a]'), raw_file('g_key', b'runs: [{[1]: 2}]')]

PLAN = {read_pth: ('.pth', PTH + STRANGE), check_weights_file: ('.pth', STRANGE[:5]), fill: ('.safetensors', SAFETENSORS + VALUES), teacher: ('.safetensors', VALUES + STRANGE),
        described_teacher: ('.safetensors', NOTES + TEACHER_NOTES), student: ('.safetensors', SAFETENSORS + STRANGE + VALUES + NOTES + STUDENT_NOTES), student_start: ('.pth', PTH[:8] + PTH[10:14]),
        prompt_from_file: ('.prompt.safetensors', PROMPTS + SAFETENSORS + STRANGE), prompt_load: ('.prompt.safetensors', PROMPTS + SAFETENSORS + STRANGE), sensitivity: ('.safetensors', MAPS + SAFETENSORS + STRANGE),
        results: ('.jsonl', ROWS + STRANGE), labels: ('.csv', TABLES + STRANGE), grid: ('.yaml', GRIDS + STRANGE)}
CASES = [(reader, make, suffix) for reader, (suffix, makers) in PLAN.items() for make in makers]


# ----------------------------------------------------------------------------------------------------------- the trial
def trial(reader, file, pipe):
    "Read in a process that may be killed; send what was said and by how much its memory grew"
    os.chdir(file.parent)
    torch.set_num_threads(1)
    now = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    Path('/proc/self/clear_refs').write_text('5') # peak memory is counted from here
    high = lambda: int(next(o for o in Path('/proc/self/status').read_text().splitlines() if o.startswith('VmHWM')).split()[1]) / 1024
    before = high()
    resource.setrlimit(resource.RLIMIT_AS, (now + 16 * 2**30,) * 2)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try: res = 'read', repr(res) if isinstance(res := reader(file), list) else ''
        except BaseException as e: res = type(e).__name__, str(e)
    pipe.send((*res, high() - before))
    pipe.close()


def attempt(reader, file):
    "(kind of answer, text, MiB) of a reader, or how it ended"
    mine, other = multiprocessing.get_context('fork').Pipe(duplex=False)
    p = multiprocessing.get_context('fork').Process(target=trial, args=(reader, file, other))
    p.start()
    other.close()
    try:
        if not mine.poll(SECONDS): return 'hung', '', 0
        return mine.recv()
    except EOFError: return 'died', f'exit code {p.exitcode}', 0
    finally:
        if p.is_alive(): p.join(1)
        if p.is_alive(): p.kill()
        p.join()


@pytest.fixture(scope='module')
def place(tmp_path_factory): return tmp_path_factory.mktemp('files')


@pytest.mark.parametrize('reader, make, suffix', CASES, ids=[f'{r.__name__}-{m.__name__}' for r, m, _ in CASES])
def test_one_sentence(place, reader, make, suffix):
    folder = place/f'{make.__name__}{suffix.replace(".", "_")}'
    file = folder/f'odd{suffix}'
    if not folder.exists():
        folder.mkdir()
        make(file)
    kind, said, grown = attempt(reader, file)
    assert kind in ('ValueError', 'TypeError'), (kind, said)
    assert any(o in said for o in ('odd', 'nowhere', '/dev/zero', 'files cannot be used', 'files is there', 'image', 'not written by pack_ints')), said # the file, or what in it is meant
    assert '\n' not in said and 20 < len(said) < 700, said
    assert not list(folder.glob('*canary*')), 'code ran'
    assert grown < ROOM, f'{grown:.0f} MiB for a sentence'


GOOD = [(fill, write, '.safetensors'), (fill, w_counter_as_float, '.safetensors'), (fill, lambda f: torch.save({'state_dict': {f'module.{k}': v for k, v in weights().items()}, 'epoch': 1}, f), '.pth'),
        (fill, lambda f: torch.save(weights(), f, _use_new_zipfile_serialization=False), '.pth'), (fill, lambda f: write(f, {k: v.half() if v.is_floating_point() else v for k, v in weights().items()}), '.safetensors'),
        (described_teacher, write, '.safetensors'), (student, write, '.safetensors'), (prompt_from_file, write_prompt, '.safetensors'), (prompt_load, write_prompt, '.safetensors'),
        (sensitivity, write_map, '.safetensors'), (results, lambda f: append_row(row(), f), '.jsonl'), (grid, lambda f: f.write_text('runs: [{method: ce}]'), '.yaml')]


@pytest.mark.parametrize('i', range(len(GOOD)))
def test_the_good_files_are_read(tmp_path, i):
    reader, make, suffix = GOOD[i]
    make(tmp_path/f'good{suffix}')
    kind, said, grown = attempt(reader, tmp_path/f'good{suffix}')
    assert kind == 'read' and grown < ROOM, (kind, said, grown)


def test_the_trial_notices_code_memory_and_waiting(tmp_path, monkeypatch):
    "What `test_one_sentence` relies on: with the plain readers of the libraries the same files do harm"
    bare_pickle(tmp_path/'a.pth')
    attempt(lambda f: torch.load(f, weights_only=False), tmp_path/'a.pth')
    assert Path(canary(tmp_path/'a.pth')).read_text() == 'code ran'
    bytearray_in_zip(tmp_path/'b.pth')
    kind, _, grown = attempt(lambda f: torch.load(f, weights_only=True), tmp_path/'b.pth')
    assert kind == 'read' and grown > 2 * ROOM
    os.mkfifo(tmp_path/'c')
    monkeypatch.setattr('test_security.SECONDS', 2)
    assert attempt(lambda f: f.read_bytes(), tmp_path/'c')[0] == 'hung'


@pytest.mark.parametrize('make', [text, empty, png, pipe, folder, device_file], ids=lambda f: f.__name__)
def test_a_foreign_cache_of_findings_is_passed_over(tmp_path, make):
    "The look at the images goes on, with one warning where the data base cannot be used"
    from PIL import Image
    Image.new('RGB', (8, 8)).save(tmp_path/'a.png')
    make(tmp_path/'scan.sqlite')
    def scan(f):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return scan_images([str(tmp_path/'a.png')], cache=f).problem.tolist()
    assert attempt(scan, tmp_path/'scan.sqlite')[:2] == ('read', "['']")


def test_findings_that_are_none_are_looked_up_again(tmp_path):
    from PIL import Image
    Image.new('RGB', (8, 8)).save(tmp_path/'a.png')
    cache = tmp_path/'scan.sqlite'
    first = scan_images([str(tmp_path/'a.png')], cache=cache)
    for found in ('[' * 10**5, '[1]', '{"bytes": 1}', 'no json'):
        with sqlite3.connect(cache) as db: assert db.execute('update facts set found = ?', (found,)).rowcount == 1
        assert scan_images([str(tmp_path/'a.png')], cache=cache).equals(first)


@pytest.mark.parametrize('which, make', [('*.csv', png), ('*.csv', empty), ('*.safetensors', png), ('*.safetensors', st_huge_tensor), ('*.safetensors', map_of('other', norm=torch.rand(9)))])
def test_a_foreign_atlas_is_named(tmp_path, which, make):
    x, quick = torch.rand(2, 3, 16, 16), dict(step=8, gains=(0.,), progress=False)
    models = {'a': 'embedded'}
    frequency_atlas(models, x, tmp_path, **quick)
    [file] = tmp_path.glob(which)
    file.unlink()
    make(file)
    with pytest.raises(ValueError, match=file.suffix) as e: frequency_atlas(models, x, tmp_path, **quick)
    assert '\n' not in str(e.value)
    file.unlink()
    assert len(frequency_atlas(models, x, tmp_path, **quick).bands)


def test_a_command_says_it_in_one_line(tmp_path):
    "A hostile teacher on the command line: exit code 2, one line, no code run"
    from foprokd.data.synth import demo_set
    demo_set(tmp_path/'images', n_max=8, ratio=2, n_valid=2, n_test=2, size=32)
    pickle_in_zip(tmp_path/'evil.pth')
    code = ('import sys; from foprokd.study.commands import foprokd_run; '
            'sys.argv = ["foprokd_run", "--data", "images", "--teacher", "resnet18", "--teacher-ckpt", "evil.pth", "--student", "test_resnet", "--out", "out"]; foprokd_run()')
    res = python(code, tmp_path)
    assert res.returncode == 2 and 'evil.pth' in res.stderr.splitlines()[-1] and 'Traceback' not in res.stderr, res.stderr[-2000:]
    assert not list(tmp_path.glob('*canary*'))
