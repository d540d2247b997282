"""Is foprokd right and fast on this GPU? One script, a PASS / FAIL / SKIP / INFO line per question, under six minutes on a data-centre GPU.

    python benchmarks/gpu_check.py                    # all, on cuda
    python benchmarks/gpu_check.py --device cpu       # the same code on a CPU, tiny sizes: a test of this script, not of a GPU
    python benchmarks/gpu_check.py --only amp,resume --budget 200
    benchmarks/pretend_cuda/run.sh benchmarks/gpu_check.py --small   # on a pretend device: placement and logic, no numerics, no speed

Needs foprokd, fastai, timm; accelerate for `nccl`, onnx, onnxruntime and onnxscript for `export`. No downloads: the embedded demo set and teacher, timm models
with random weights. Exit code 0 if nothing failed.
"""
import argparse, json, os, socket, subprocess, sys, tempfile, time, traceback, warnings
os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # before CUDA starts: matrix products that repeat to the bit
os.environ.setdefault('HF_HUB_OFFLINE', '1'); os.environ.setdefault('MPLBACKEND', 'agg')

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument('--device', default='cuda', choices=['cuda', 'cpu'])
ap.add_argument('--only', default='', help='names of checks, by comma')
ap.add_argument('--skip', default='')
ap.add_argument('--budget', type=float, default=330., help='seconds; checks that would begin later are skipped')
ap.add_argument('--small', action='store_true', help='tiny sizes and no code generation on cuda, too')
ap.add_argument('--part', default='', help=argparse.SUPPRESS)  # this script in a process of its own
ap.add_argument('--folder', default='', help=argparse.SUPPRESS)
args = ap.parse_args()
if args.part == 'load': os.environ['CUDA_VISIBLE_DEVICES'] = ''

warnings.simplefilter('ignore')
import copy
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
import numpy as np, timm, torch, torch.nn.functional as F
from torch import nn
from fastai.vision.all import (Callback, CancelFitException, DataLoaders, Learner, MixedPrecision, OptimWrapper, default_device, load_learner, set_seed)
import fastai.callback.channelslast  # noqa: F401  gives Learner to_channelslast
from foprokd.adversarial import AdversarialCallback
from foprokd.train.checkpoint import CheckpointFolder
from foprokd.data.labels import read_labels
from foprokd.data.loaders import image_dls
from foprokd.distill import DistillCallback
from foprokd.explore import explore_learner, fpg_objective
from foprokd.study.features import TeacherFeatures
from foprokd.train.guards import FiniteGuard, PhaseWatch
from foprokd.learner import fopro_learner
from foprokd.losses import BalancedSoftmaxLoss
from foprokd.pixels import PixelSpace
from foprokd.frequency.controls import RandomPrompt
from foprokd.prompt import FourierPromptGenerator, IdentityPrompt
from foprokd.train.resume import CheckpointCallback
from foprokd.frequency.sensitivity import sensitivity_map
from foprokd.data.splits import split_data
from foprokd.student import Student, load_student
from foprokd.data.synth import demo_dls, demo_set
from foprokd.teacher import FrozenTeacher

GPU, START, CHECKS, RESULTS = args.device == 'cuda', time.perf_counter(), {}, []
DEV = torch.device(args.device)
FULL = GPU and not args.small
if GPU and not torch.cuda.is_available(): sys.exit('no CUDA device here: --device cpu runs the same code, tiny')
# sizes: what a GPU is asked, and what a CPU is asked to see that this script works
BIG = dict(student='resnet18', teacher='resnet50', vit='vit_small_patch16_224', px=224, bs=128, steps=12) if FULL else dict(student='test_resnet', teacher='test_resnet', vit='test_vit', px=160, bs=4, steps=2)


def say(kind, name, text=''):
    RESULTS.append((kind, name)); print(f'{kind:4} {name}' + (f': {text}' if text else ''), flush=True)

def check(f): CHECKS[f.__name__] = f; return f

def need(ok, name, text=''): say('PASS' if ok else 'FAIL', name, text); return ok

def attempt(name, f, expect=lambda r: True):
    "One question: FAIL with the error if it raises"
    try: r = f()
    except Exception as e: say('FAIL', name, f"{type(e).__name__}: {' '.join(str(e).split())[:260]}"); return None
    need(bool(expect(r)), name, '' if r is None or isinstance(r, (nn.Module, Learner)) else str(r)[:200]); return r

def wait():
    if GPU: torch.cuda.synchronize()

def free():
    import gc; gc.collect()
    if GPU: torch.cuda.empty_cache(); torch.cuda.reset_peak_memory_stats()

def quiet(learn): stack = __import__('contextlib').ExitStack(); stack.enter_context(learn.no_bar()); stack.enter_context(learn.no_logging()); return stack

@contextmanager
def exact(tf32=False, deterministic=True):
    "float32 without TF32, algorithms that repeat"
    old = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=deterministic, allow_tf32=tf32):
        try: yield
        finally: torch.backends.cuda.matmul.allow_tf32 = old

def make(change=lambda l: None, seed=0, student='test_resnet', teacher='embedded', size=32, bs=32, n_max=60, ratio=10, n_valid=8, dtype=None, teacher_size=32, **kw):
    "The demo set, a small student, the embedded teacher"
    default_device(GPU); set_seed(seed, reproducible=True)
    dls = demo_dls(bs=bs, n_max=n_max, ratio=ratio, n_valid=n_valid, n_test=1, size=size)
    t = FrozenTeacher(teacher, size=teacher_size, dtype=dtype) if isinstance(teacher, str) else teacher
    learn = fopro_learner(dls, student, t, **({} if not isinstance(student, str) else dict(student_kwargs=dict(dtype=dtype))), **kw)
    change(learn); return learn

def fit(learn, *epochs, **kw):
    with quiet(learn): learn.fit_fopro(*epochs, lr=3e-3, **kw)
    return learn

def weights(learn): return [v.detach().cpu().clone() for m in (learn.student, learn.explorer.model) for v in m.state_dict().values()]

def same(a, b): return len(a) == len(b) and all(x.equal(y) for x, y in zip(a, b))

def far(a, b): return max(float((x.double() - y.double()).abs().max()) for x, y in zip(a, b))


# ------------------------------------------------------------------ where things are
@check
def placement():
    "Every part of every phase on the device"
    learn = fit(make(distill_kwargs=dict(soft=.5)), 1, 1, 1)
    ex = learn.explorer.model
    where = {k: {str(v.device.type) for v in (*m.parameters(), *m.buffers())} for k, m in dict(student=learn.model, teacher=learn.teacher, prompt=learn.prompt, probe=ex.probe, pixels=ex.pixels).items()}
    need(all(v <= {DEV.type} for v in where.values()), 'placement of student, teacher, prompt, probe, pixels', str({k: sorted(v) for k, v in where.items()}))
    losses = [h['losses'][-1] for h in learn.phase_history]; need(np.isfinite(losses).all(), 'finite losses of explore, distill, adversarial', str(np.round(losses, 3)))
    with quiet(learn): probs, _ = learn.get_preds()
    need(probs.device.type == 'cpu' and bool(probs.isfinite().all()), 'predictions come back to the CPU')
    attempt('fpg_objective after the fit', lambda: round(fpg_objective(ex, learn.dls.valid, learn.counts)['total'], 3))
    attempt('show_prompts', lambda: type(learn.show_prompts(2)).__name__)
    attempt('a ViT teacher (no BatchNorm: reference statistics)', lambda: [round(h['losses'][-1], 3) for h in fit(make(teacher=FrozenTeacher(timm.create_model('test_vit', num_classes=0), size=64)), 1, 1, 1).phase_history])
    attempt('a RandomPrompt in distillation', lambda: round(fit(make(prompt=RandomPrompt(learn.prompt)), 0, 1).phase_history[-1]['losses'][-1], 3))
    learn.dls.to('cpu'); attempt('the same learner goes on, on the CPU', lambda: fit(learn, 0, 1, 1).model, lambda m: next(m.parameters()).device.type == 'cpu')

@check
def given_on_device():
    "What a user hands over is on the GPU already"
    net = timm.create_model('test_resnet', num_classes=0).to(DEV)
    attempt('FrozenTeacher(module on the device)', lambda: FrozenTeacher(net, size=32).num_features)
    attempt('fopro_learner(student module on the device)', lambda: fit(make(student=timm.create_model('test_resnet', num_classes=0).to(DEV)), 0, 1).phase_history[-1]['name'])
    t = FrozenTeacher('embedded', size=32).to(DEV)
    attempt('TeacherFeatures of a teacher on the device', lambda: TeacherFeatures([t], 'all').num_features)
    from foprokd.study.wiring import learner_from_config
    from foprokd.study.settings import RunConfig
    from foprokd.study.sources import load_data
    folder = demo_set(Path(tempfile.mkdtemp())/'demo', n_max=40, ratio=4, n_valid=2, n_test=2, size=32)
    default_device(GPU)
    def scaled():
        cfg = RunConfig(data=str(folder), method='ekd', student='test_resnet', teacher_size='32', size=32, bs=16, teacher_scale='standard', distill=1)
        return learner_from_config(cfg, load_data(cfg), 0).teacher.scale
    attempt('foprokd_run --teacher-scale standard', scaled)
    attempt('image_dls(device=cpu) on this machine', lambda: str(image_dls(split_data(read_labels(folder/'labels.csv')), size=32, bs=16, device='cpu').one_batch()[0].device), lambda d: d == 'cpu')


# ------------------------------------------------------------------ precision
class FirstBatch(Callback):
    "Keep loss, logits and gradients of the first batch, and leave"
    order = MixedPrecision.order + 1
    def before_fit(self):
        self.kept, grads = {}, lambda opt: torch.cat([p.grad.flatten() for g in opt.param_groups for p in g['params']])
        for cb in self.learn._grab_cbs(AdversarialCallback): cb.ascent.register_step_pre_hook(lambda opt, *_: self.kept.update({'prompt gradient': grads(opt)}))
    def after_backward(self):
        part, scale = getattr(self.model, 'prompt', self.model), getattr(self.learn, 'scaler', None)
        grad = torch.cat([p.grad.flatten() for p in part.parameters() if p.grad is not None])
        name = 'student gradient' if part is self.model else 'prompt gradient'
        self.kept |= {name: grad / (scale.get_scale() if scale else 1.), 'loss': self.learn.loss.detach(), 'logits': self.pred.detach()}
        self.model.zero_grad()
        raise CancelFitException

def first_batch(change=lambda l: None, seed=1, **kw):
    learn, cb, res = make(change, **kw), FirstBatch(), {}
    ex = explore_learner(learn.dls, learn.teacher, learn.prompt); learn.model.to(DEV)
    ex.add_cbs([MixedPrecision(c.amp_mode, **c.kwargs) for c in learn._grab_cbs(MixedPrecision)])
    for phase in ('explore', 'distill', 'adversarial'):
        set_seed(seed, reproducible=True)
        if phase == 'explore':
            with quiet(ex), ex.added_cbs(cb): ex.fit(1)
        else:
            with quiet(learn): learn.fit_fopro(**{**dict(explore=0, distill=0), phase: 1}, cbs=cb)
        res |= {(phase, k): v.float().cpu().double().flatten() for k, v in cb.kept.items()}
    return res

def errors(got, ref):
    "Smallest cosine, largest relative error of losses, logits, gradients"
    e = {k: float((got[k] - v).norm() / v.norm().clamp_min(1e-12)) for k, v in ref.items()}
    top = lambda end: max(v for k, v in e.items() if k[1].endswith(end))
    return dict(cosine=min(float(F.cosine_similarity(got[k], v, dim=0)) for k, v in ref.items()), loss=top('loss'), logits=top('logits'), gradient=top('gradient'))

def show(e): return ', '.join(f'{k} {v:.2g}' if k != 'cosine' else f'cosine {v:.5f}' for k, v in e.items())

@check
def amp():
    "Half precision against float32 without TF32, first batch of each phase"
    with exact():
        ref = first_batch(); again = first_batch()
        need(all(again[k].equal(v) for k, v in ref.items()), 'float32 asked twice: every bit', '' if all(again[k].equal(v) for k, v in ref.items()) else show(errors(again, ref)))
        other = errors(first_batch(seed=2), ref); say('INFO', 'yardstick, another batch', show(other))
        for name, change, kw in (('to_bf16', lambda l: l.to_bf16(), {}), ('to_fp16', lambda l: l.to_fp16(init_scale=2.**8), {}), ('dtype=bfloat16', lambda l: None, dict(dtype=torch.bfloat16))):
            e = errors(first_batch(change, **kw), ref)
            need(e['loss'] < .005 and e['logits'] < .02 and e['cosine'] > .98 and (not GPU and not kw or e['gradient'] > 1e-5), f'{name} close to float32 (loss .5 %, logits 2 %, cosine .98)', show(e))
    with exact(tf32=True): say('INFO', 'TF32 (torch\'s default for convolutions) against float32', show(errors(first_batch(), ref)))
    ref = first_batch(teacher_size=48) # the teacher resizes
    e = errors(first_batch(lambda l: l.to_fp16(init_scale=2.**8), teacher_size=48), ref); need(e['cosine'] > .98, 'to_fp16 with a teacher that resizes', show(e))
    p = FourierPromptGenerator(init_std=.3).to(DEV)
    for mode in ('gain', 'mix'):
        p.mode = mode; x = torch.rand(8, 3, 56, 56, device=DEV); z = p.sample_z(8, DEV)
        with exact():
            want = p(x, z)
            for d in (torch.bfloat16, torch.float16):
                with torch.autocast(DEV.type, d): got, narrow = p(x, z), p(x.to(d), z)
                need(got.equal(want) and narrow.dtype == torch.float32, f'Fourier transform in float32 under autocast {str(d)[6:]}, mode {mode}, 56 px (no power of two)')

@check
def scaler():
    "GradScaler in all phases, from a scale that overflows"
    if not GPU: say('INFO', 'scaler', 'GradScaler("cuda") is off on a CPU: the code runs, nothing is scaled')
    skips = {}
    class Skips(Callback):
        order = 90
        def after_step(self): skips.setdefault(type(self.model).__name__, []).append(any(c.skipped for c in self.learn._grab_cbs(MixedPrecision)))
        def after_batch(self):
            s = self.learn.__dict__.get('scaler'); skips['scale'] = s.get_scale() if s is not None else None
    learn = make(lambda l: l.to_fp16(init_scale=2.**40), n_max=120, bs=16); learn.exploration().add_cb(Skips())
    learn.explore_kwargs = {}
    fit(learn, 2, 2, 1, cbs=Skips())
    ok = all(v.isfinite().all() for v in weights(learn) if v.is_floating_point())
    need(ok, 'fp16 from scale 2**40: weights stay finite in explore, distill, adversarial', f"last scale {skips.get('scale')}, steps left out { {k: f'{sum(v)}/{len(v)}' for k, v in skips.items() if k != 'scale'} }")
    if GPU: need(skips['scale'] < 2.**40, 'the scaler came down')

@check
def layout():
    "Channels last"
    with exact():
        ref = first_batch(); e = errors(first_batch(lambda l: l.to_channelslast(use_amp=False)), ref)
        need(e['gradient'] < 1e-3 and e['logits'] < 1e-4, 'channels last: rounding only', show(e))
        e = errors(first_batch(lambda l: l.to_channelslast(init_scale=2.**8)), ref); need(e['cosine'] > .98, 'channels last with fp16 (fastai\'s default)', show(e))

@check
def compiled():
    "torch.compile of student and teacher, in place"
    backend = dict() if FULL else dict(backend='aot_eager')
    t, graphs = time.perf_counter(), []
    def change(l): l.model.compile(**backend); l.teacher.model.compile(**backend)
    with exact():
        ref = first_batch()
        e = errors(first_batch(change), ref); need(e['gradient'] < 2e-3 and e['logits'] < 1e-3, 'compiled student and teacher: rounding only', f'{show(e)}; {time.perf_counter() - t:.0f} s with compilation')
        e = errors(first_batch(lambda l: (change(l), l.to_bf16())), ref); need(e['cosine'] > .97, 'compiled, to_bf16', show(e))
    torch._dynamo.reset(); eager = torch._dynamo.lookup_backend('eager')
    def counting(g, i): graphs.append(torch.is_grad_enabled()); return eager(g, i)
    l = make(); l.teacher.model.compile(backend=counting); fit(l, 0, 1)
    need(len(graphs) == 1, 'distillation compiles the teacher once', f'{len(graphs)} graphs, of which {sum(graphs)} with gradients on')
    torch._dynamo.reset()


# ------------------------------------------------------------------ the same numbers again
class Leave(Callback):
    order = CheckpointCallback.order + 1
    def __init__(self, n): self.n = [n]
    def after_batch(self):
        if self.training: self.n[0] -= 1
        if self.training and self.n[0] == 0: raise KeyboardInterrupt

def run(change, folder=None, leave=None, seed=0, **kw):
    learn = make(change, seed=seed, n_max=24, ratio=4, n_valid=2, bs=16, distill_kwargs=dict(soft=.5), **kw)
    cb = None if leave is None else Leave(leave)
    if cb is not None: learn.exploration().add_cb(cb)
    fit(learn, 1, 2, 1, cbs=cb, **({} if folder is None else dict(checkpoint=folder, minutes=0, resume=any(Path(folder).glob('*.ckpt')))))
    return learn

@check
def resume():
    "Twice the same, and killed and resumed, with deterministic algorithms; and which operations have none"
    for size, what in ((32, 'teacher at the images\' size'), (48, 'teacher resizes')):
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter('always')
                a = weights(run(lambda l: None, teacher_size=size))
            odd = sorted({str(w.message).split(' does not')[0].split()[-1] for w in said if 'deterministic' in str(w.message) and 'does not have' in str(w.message)})
            say('INFO', f'operations without a deterministic form, {what}', ', '.join(odd) or 'none')
            b = weights(run(lambda l: None, teacher_size=size)); equal = same(a, b)
            (need if not odd else lambda ok, n, t='': say('INFO', n, t))(equal, f'all phases twice, {what}', 'every bit' if equal else f'largest difference {far(a, b):.2g}')
            n = len(make(n_max=24, ratio=4, n_valid=2, bs=16).dls.train)
            for name, change in dict(fp32=lambda l: None, bf16=lambda l: l.to_bf16(), fp16=lambda l: l.to_fp16(init_scale=2.**10, growth_interval=3)).items():
                if size != 32 and name != 'fp32': continue
                whole = weights(run(change, teacher_size=size)); same_again = same(whole, weights(run(change, teacher_size=size)))
                for at, phase in ((1, 'explore'), (n + 2, 'distill'), (3 * n + 1, 'adversarial')):
                    if (name, phase) in (('bf16', 'explore'), ('bf16', 'adversarial'), ('fp16', 'explore'), ('fp16', 'distill')): continue
                    folder = tempfile.mkdtemp()
                    try: run(change, folder, at, teacher_size=size)
                    except KeyboardInterrupt: pass
                    got = weights(run(change, folder, seed=7, teacher_size=size)); equal = same(got, whole)
                    (need if same_again else lambda ok, k, t='': say('INFO', k, t))(equal, f'killed in {phase} and resumed, {name}, {what}', 'every bit' if equal else f'largest difference {far(got, whole):.2g}')
        except Exception: say('FAIL', f'resume, {what}', traceback.format_exc().strip().splitlines()[-1][:250])
        finally: torch.use_deterministic_algorithms(False)


# ------------------------------------------------------------------ files
@check
def export():
    "What a GPU learner writes is read without a GPU"
    folder = Path(tempfile.mkdtemp())
    with exact():
        learn = fit(make(n_valid=6), 1, 1, 1, checkpoint=folder/'ckpt'); learn.path = folder
        with quiet(learn): probs = learn.get_preds()[0]
        torch.save(dict(x=torch.cat([b[0].as_subclass(torch.Tensor).cpu() for b in learn.dls.valid]), probs=probs), folder/'said.pt')
        attempt('learn.export', lambda: learn.export('s.pkl')); attempt('safetensors', lambda: learn.export_student(folder/'s.safetensors').name)
        attempt('learn.save and load', lambda: (learn.save('w', with_opt=False), learn.load('w', with_opt=False))[0].name); learn.prompt.save(folder/'p.safetensors')
        if all(__import__('importlib.util').util.find_spec(o) for o in ('onnx', 'onnxruntime', 'onnxscript')):
            attempt('ONNX (compares with the learner)', lambda: learn.export_student(folder/'s.onnx', calibration=True).name)
            attempt('8 bits', lambda: learn.quantize_student(folder/'s.onnx', n=32).name)
            attempt('deploy_report', lambda: learn.deploy_report(folder/'s.onnx', rounds=3).shape)
        else: say('SKIP', 'ONNX', 'onnx, onnxruntime or onnxscript missing')
        try:
            from foprokd.deploy.saliency import occlusion_map
            attempt('occlusion map', lambda: occlusion_map(learn.student, learn.dls.valid.one_batch()[0][:2], patch=16).shape)
        except ImportError: say('SKIP', 'occlusion map', 'captum missing')
    res = subprocess.run([sys.executable, __file__, '--device', 'cpu', '--part', 'load', '--folder', str(folder)], capture_output=True, text=True, timeout=200,
                         env={**os.environ, 'CUDA_VISIBLE_DEVICES': ''})
    lines = [o for o in res.stdout.splitlines() if o[:4] in ('PASS', 'FAIL', 'SKIP', 'INFO')]
    for o in lines: say(o[:4], 'without GPU: ' + o[5:])
    need(res.returncode == 0 and lines, 'a process without CUDA reads it all', res.stderr[-300:] if not lines else '')

def load_part():
    "In a process that sees no GPU"
    folder = Path(args.folder); said = torch.load(folder/'said.pt', weights_only=True); tol = 2e-4
    need(not torch.cuda.is_available(), 'no CUDA device is visible')
    d = lambda p: f'largest difference of a probability {float((p - said["probs"]).abs().max()):.1e}'
    def near(p): return float((p - said['probs']).abs().max()) < tol
    with torch.no_grad():
        net = load_learner(folder/'s.pkl').model.eval(); p = net(said['x']).softmax(1); need(near(p), 'load_learner', d(p))
        net, _ = load_student(folder/'s.safetensors'); p = net(said['x']).softmax(1); need(near(p), 'load_student', d(p))
    pr = FourierPromptGenerator.from_file(folder/'p.safetensors'); need(bool(pr(torch.rand(2, 3, 32, 32)).isfinite().all()), 'the prompt')
    state = torch.load(folder/'models'/'w.pth', map_location='cpu', weights_only=True); need(isinstance(state, dict), 'weights of learn.save')
    s = CheckpointFolder(folder/'ckpt').latest(); need(all(v.device.type == 'cpu' for v in s['student'].values()), 'a checkpoint')
    default_device(False); learn = make(n_valid=6)
    with quiet(learn): learn.fit_fopro(1, 1, 1, lr=3e-3, checkpoint=folder/'ckpt', resume=True)
    need(all(v.equal(s['student'][k]) for k, v in learn.student.state_dict().items()), 'resume=True of a finished GPU run')


# ------------------------------------------------------------------ many processes
@check
def nccl():
    "One process that joins NCCL: DistributedDataParallel, SyncBatchNorm, object collectives, all phases"
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
    env = {**os.environ, 'RANK': '0', 'LOCAL_RANK': '0', 'WORLD_SIZE': '1', 'LOCAL_WORLD_SIZE': '1', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port)}
    if not GPU: env['ACCELERATE_USE_CPU'] = '1'
    try: res = subprocess.run([sys.executable, __file__, '--device', args.device, '--part', 'nccl', *(['--small'] if args.small else [])], capture_output=True, text=True, timeout=150, env=env)
    except subprocess.TimeoutExpired: return say('FAIL', 'nccl', 'still waiting after 150 s')
    lines = [o for o in res.stdout.splitlines() if o[:4] in ('PASS', 'FAIL', 'SKIP', 'INFO')]
    for o in lines: say(o[:4], o[5:])
    if res.returncode not in (0, 1) or not lines: say('FAIL', 'nccl', res.stderr[-300:])
    elif not any(o.startswith('PASS GlobalDL') for o in lines): say('FAIL', 'nccl', 'did not come to its end')

def nccl_part():
    try: import accelerate
    except ImportError: return say('SKIP', 'nccl', 'accelerate missing')
    import torch.distributed as dist
    from foprokd.train.distributed import GlobalDL, PhaseTrainer
    from foprokd.train import ranks
    if GPU: accelerate.PartialState(); accelerate.Accelerator.multi_device = property(lambda self: True) # wrap a single process, too
    else: dist.init_process_group('gloo', rank=0, world_size=1)
    say('INFO', 'process group', f'{dist.get_backend()}, world size {dist.get_world_size()}')
    x = torch.rand(5, device=DEV, requires_grad=True); y = ranks._Sum.apply(x); y.sum().backward()
    need(y.equal(x) and bool((x.grad == 1).all()), 'all_reduce with gradient')
    box = [dict(a=1, b=torch.arange(3))]; dist.broadcast_object_list(box, 0); res = [None]; dist.all_gather_object(res, box[0]); need(res[0]['a'] == 1, 'object collectives')
    try: dist.all_reduce(torch.ones(2)); say('INFO', 'a CPU tensor', 'is accepted (gloo)')
    except Exception as e: say('INFO', 'a CPU tensor', f'is refused ({type(e).__name__})')
    for student in ('test_resnet', 'mobilenetv3_small_050'):
        learn = make(student=student); learn.model.to(DEV); seen = torch.cat([b[0] for b in learn.dls.valid])
        for m in learn.model.modules():
            if isinstance(m, nn.BatchNorm2d): m.running_mean.normal_(std=.1)
        learn.prompt.to(DEV); trainer = PhaseTrainer(); learn.add_cb(trainer); learn.dls.to(trainer.accelerator.device); wrapped = []
        class Look(Callback):
            order = 50
            def before_train(self): wrapped.append((type(self.learn.model).__name__, sum(isinstance(m, nn.SyncBatchNorm) for m in self.learn.model.modules())))
        kind = lambda m: type(m).__name__
        acts = [kind(m) for m in learn.student.backbone.modules() if 'Act' in kind(m)]
        with torch.no_grad(): before = learn.student.eval()(seen)
        state = copy.deepcopy(learn.student.state_dict())
        learn.exploration().add_cb(Look())
        def phases():
            with quiet(learn): learn.fit_fopro(1, 1, 1, lr=3e-3, cbs=Look())
            return wrapped
        attempt(f'{student}: all phases through DistributedDataParallel', phases, lambda w: [o[0] for o in w] == ['DistributedDataParallel'] * 3)
        learn.student.load_state_dict(state)
        with torch.no_grad(): after = learn.student.eval()(seen)
        need(torch.allclose(before, after, atol=1e-3, rtol=1e-3), f'{student}: the same weights are the same function after sync_bn', f'relative change {float((before - after).norm() / before.norm()):.2g}; activations in its norms {len(acts)} -> {sum("Act" in kind(m) for m in learn.student.backbone.modules())}')
        attempt(f'{student}: probabilities whole and in order', lambda: learn.get_preds()[0].shape)
    dl = GlobalDL(make().dls.valid, device=DEV); need(sorted(dl.get_idxs()) == list(range(dl.dl.n)), 'GlobalDL broadcasts its order')
    dist.destroy_process_group()


# ------------------------------------------------------------------ speed
class Both(Callback):
    "The classification losses of both heads"
    run_valid = False
    def before_batch(self): self.learn.xb = (*self.xb, True)
    def after_pred(self): self.learn.pred, self.projected, self.aux = self.pred
    def after_loss(self): self.learn.loss_grad = self.loss_grad + self.loss_func(self.aux, *self.yb); self.learn.loss = self.loss_grad.clone()

def stepper(learn, batch):
    "One training step after the other on one batch"
    learn.remove_cbs([c for c in learn.cbs if type(c).__name__ == 'ProgressCallback'])
    learn.create_opt(); learn.opt.set_hypers(lr=1e-5)
    learn.n_epoch, learn.epoch, learn.n_iter, learn.dl = 1, 0, 10**6, learn.dls.train
    for event in ('before_fit', 'before_epoch', 'before_train'): learn(event)
    return lambda: learn.one_batch(0, batch)

def timed(step, steps, warm=3):
    "Median seconds, peak MiB above what was there"
    for _ in range(warm): step()
    wait(); free(); base = torch.cuda.memory_allocated() if GPU else 0; ts = []
    for _ in range(steps):
        wait(); t = time.perf_counter(); step(); wait(); ts.append(time.perf_counter() - t)
    return float(np.median(ts)), ((torch.cuda.max_memory_allocated() - base) / 2**20 if GPU else float('nan'))

def bench(teacher_name, px, bs, steps, bf16, fused=False, names=None):
    default_device(GPU)
    dls = demo_dls(size=64, bs=8, n_max=16, ratio=1, n_valid=4).to(DEV)
    x = torch.randn(bs, 3, px, px, device=DEV).contiguous(memory_format=torch.channels_last); y = torch.arange(bs, device=DEV) % 8
    t = FrozenTeacher(timm.create_model(teacher_name, num_classes=0), size=px).to(DEV); loss = BalancedSoftmaxLoss([10] * 8).to(DEV); pxs = PixelSpace.from_dls(dls).to(DEV)(x)
    opt = dict(opt_func=partial(OptimWrapper, opt=partial(torch.optim.Adam, fused=True))) if fused else {}
    def learner(*cbs):
        l = Learner(dls, Student(BIG['student'], 8, t.num_features).to(DEV, memory_format=torch.channels_last), loss_func=loss, cbs=cbs, **opt)
        return l.to_bf16() if bf16 else l
    guards = lambda: (FiniteGuard(), PhaseWatch())
    half = lambda: torch.autocast(DEV.type, torch.bfloat16) if bf16 else nullcontext()
    def bare():
        with torch.no_grad(), half(): t(pxs)
    def prompt():
        p = FourierPromptGenerator().to(DEV)
        def go():
            with torch.no_grad(): p(pxs)
        return go
    def explore():
        l = explore_learner(dls, t, counts=[10] * 8, cbs=guards(), **opt); l = l.to_bf16() if bf16 else l; l.model.to(DEV); return stepper(l, (x, y))
    todo = dict(student=lambda: stepper(learner(Both()), (x, y)), teacher=lambda: bare, prompt=prompt, ekd_no_guards=lambda: stepper(learner(DistillCallback(t)), (x, y)),
                ekd=lambda: stepper(learner(DistillCallback(t), *guards()), (x, y)), fopro=lambda: stepper(learner(DistillCallback(t, FourierPromptGenerator()), *guards()), (x, y)),
                akd=lambda: stepper(learner(AdversarialCallback(t, FourierPromptGenerator()), *guards()), (x, y)), explore=explore)
    res = {}
    for k, f in todo.items():
        if names is None or k in names: res[k] = timed(f(), steps)
        free()
    return res

@check
def speed():
    "Steps of each phase beside student and teacher alone"
    runs = [('float32 (TF32 convolutions)', BIG['teacher'], False, False), ('bfloat16', BIG['teacher'], True, False), ('bfloat16, fused Adam', BIG['teacher'], True, True), ('bfloat16', BIG['vit'], True, False)]
    for what, teacher, bf16, fused in (runs if FULL else runs[1::2]):
        with exact(tf32=True, deterministic=False):
            try: r = bench(teacher, BIG['px'], BIG['bs'], BIG['steps'], bf16, fused, None if teacher == BIG['teacher'] and not fused else ('student', 'teacher', 'ekd', 'fopro', 'akd', 'explore'))
            except Exception as e: say('FAIL', f'speed, {what}, {teacher}', f'{type(e).__name__}: {str(e)[:200]}'); continue
        both = r['student'][0] + r['teacher'][0]
        say('INFO', f"{BIG['student']} taught by {teacher}, {BIG['bs']} images of {BIG['px']} px, {what}", f'student + teacher {1e3 * both:.1f} ms')
        for k, (s, mib) in r.items(): print(f'     {k:14} {1e3 * s:8.1f} ms  ratio {s / both:5.2f}  {BIG["bs"] / s:8.0f} img/s  peak +{mib:7.0f} MiB', flush=True)
        if FULL:
            need(r['ekd'][0] / both < 1.15, f'EKD costs student + teacher, {what}, {teacher} (ratio below 1.15)', f"{r['ekd'][0] / both:.2f}"); need(r['fopro'][0] / both < 1.25, f'FoPro-KD below 1.25, {what}, {teacher}', f"{r['fopro'][0] / both:.2f}")
    if FULL: small()

def small():
    "A step that is bound by kernel launches: small student, small images"
    global BIG
    old, BIG = BIG, {**BIG, 'student': 'test_resnet'}
    try: r = bench('test_resnet', 64, 64, 20, False); s = r['student'][0] + r['teacher'][0]; say('INFO', 'small pair at 64 px, bs 64 (bound by launches)', ', '.join(f'{k} {1e3 * v[0]:.1f} ms ({v[0] / s:.2f})' for k, v in r.items()))
    finally: BIG = old

@check
def waits():
    "How often a training step makes the CPU wait for the GPU, and of a pretend device how many operations it asks for"
    if not GPU: return say('SKIP', 'waits', 'torch counts them on CUDA only')
    pretend = sys.modules.get('fakecuda')  # which counts by itself
    class Count(Callback):
        order = 1000
        def after_batch(self):
            if not self.training: return
            if self.iter == 1:
                self.said = warnings.catch_warnings(record=True); self.heard = self.said.__enter__(); warnings.simplefilter('always'); torch.cuda.set_sync_debug_mode('warn')
                if pretend: self.seen = pretend.record(); self.events = self.seen.__enter__()
            if self.iter == 2:
                if pretend: self.seen.__exit__(None, None, None)
                torch.cuda.set_sync_debug_mode('default'); self.said.__exit__(None, None, None)
                raise CancelFitException
        def where(self):
            if pretend: return [f'{kind} {line.split(" ")[0]}' for (kind, line), n in self.events.items() if not kind.startswith('H2D') for _ in range(n)]
            return [f'{Path(w.filename).parent.name}/{Path(w.filename).name}:{w.lineno}' for w in self.heard if 'synchroniz' in str(w.message)]
    for phase in ('plain', 'ekd', 'distill', 'adversarial', 'explore'):
        learn, cb = make(prompt=IdentityPrompt() if phase == 'ekd' else None), Count()
        if phase == 'explore': learn.model.to(DEV); l = learn.exploration()
        elif phase == 'plain': l = Learner(learn.dls, Student('test_resnet', 8, 96), loss_func=BalancedSoftmaxLoss([10] * 8), cbs=Both())
        else: l = learn
        with quiet(l):
            if l is learn: learn.fit_fopro(**{**dict(explore=0, distill=0), 'distill' if phase == 'ekd' else phase: 1}, cbs=cb)
            else: l.fit(1, cbs=cb)
        where = cb.where(); text = f'{len(where)}: ' + ', '.join(f'{n}x {o}' for o, n in sorted(((o, where.count(o)) for o in set(where)), key=lambda v: -v[1])[:6])
        if pretend: text += f'; {pretend._launches[0]} operations'
        if phase == 'plain': plain = len(where); say('INFO', 'waits in a step of plain fastai', text)
        else: need(len(where) <= plain, f"waits in a step of {phase}, no more than fastai's own", text)

@check
def prior():
    "What the teacher's prior adds to its forward and backward pass, and what a step of exploration holds in half precision"
    px, b = (224, 64) if FULL else (64, 8); pretend, asked = sys.modules.get('fakecuda'), ''
    net = FrozenTeacher(timm.create_model('resnet50', num_classes=0), size='image').to(DEV); x = torch.rand(b, 3, px, px, device=DEV, requires_grad=True); own = {o.untyped_storage().data_ptr() for o in net.state_dict().values()}
    def both():
        feats, r = net.with_prior(x)
        return feats.mean() + r
    for name, f in (('without the prior', lambda: net(x).mean()), ('with the prior', both)):
        torch.autograd.grad(f(), x)  # what is made once
        if pretend:
            with pretend.record(): torch.autograd.grad(f(), x)
            asked = f'{pretend._launches[0]} operations forward and backward; '
        held = []
        for amp in (False, True):
            kept = {}
            def keep(t):
                if t.dtype == torch.float32 and (k := t.untyped_storage().data_ptr()) not in own: kept[k] = t.untyped_storage().nbytes()
                return t
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t), torch.autocast(DEV.type, torch.bfloat16, enabled=amp): f()
            held.append(sum(kept.values()) / 2**20)
        say('INFO', f'ResNet-50 {name}, {b} images of {px} px', f'{asked}the graph holds {held[0]:.1f} MiB in float32, under bfloat16 {held[1]:.1f}')
    if not GPU: return
    n = 64 if FULL else 32
    for name, change in (('float32', lambda l: None), ('bfloat16', lambda l: l.to_bf16())):
        learn = make(change, teacher=net, size=px, bs=n); learn.model.to(DEV); ex = learn.exploration()
        class Peak(Callback):
            def before_batch(self): free(); self.start = torch.cuda.memory_allocated()
            def after_batch(self): self.peak = torch.cuda.max_memory_allocated() - self.start; raise CancelFitException
        ex.add_cb(cb := Peak())
        fit(learn, 1, 0)
        say('INFO', f'a step of exploration in {name}, ResNet-50, {n} images of {px} px', f'+{cb.peak / 2**20:.0f} MiB')

@check
def fourier():
    "The prompt at full size, beside the teacher's forward pass"
    b, px = (256, 224) if FULL else (4, 160)
    p, x = FourierPromptGenerator().to(DEV), torch.rand(b, 3, px, px, device=DEV); z = p.sample_z(b, DEV); t = FrozenTeacher(timm.create_model(BIG['teacher'], num_classes=0), size='image').to(DEV)
    with torch.no_grad():
        a, mem = timed(lambda: p(x, z), BIG['steps']); c, _ = timed(lambda: t(x), BIG['steps'])
        with torch.autocast(DEV.type, torch.bfloat16): h, _ = timed(lambda: t(x), BIG['steps'])
        k, _ = timed(lambda: p.band((px, px), DEV), 20)
    g, gm = timed(lambda: p(x, z).mean().backward(), BIG['steps'])
    say('INFO', f'prompt, {b} images of {px} px', f"{1e3 * a:.2f} ms (+{mem:.0f} MiB); with gradient {1e3 * g:.2f} ms (+{gm:.0f} MiB); {BIG['teacher']} forward {1e3 * c:.2f} ms, in bfloat16 {1e3 * h:.2f} ms; its band mask, made anew each time, {1e3 * k:.3f} ms")
    if FULL: need(a / h < .35, 'prompt below 35 % of the teacher in bfloat16', f'{a / h:.2f}')

@check
def data_wait():
    "Which share of an epoch waits for images"
    px, n = (128, 100) if FULL else (32, 20)
    folder = demo_set(Path(tempfile.mkdtemp())/'demo', n_max=n, ratio=4, n_valid=2, n_test=2, size=px); df = split_data(read_labels(folder/'labels.csv')); default_device(GPU)
    class Share(Callback):
        order = 1000
        def before_train(self): self.t, self.gap, self.start = time.perf_counter(), 0., time.perf_counter()
        def before_batch(self):
            if self.training: self.gap += time.perf_counter() - self.t
        def after_batch(self):
            if self.training: wait(); self.t = time.perf_counter()
        def after_train(self): self.total = time.perf_counter() - self.start
    for workers, cache in ((0, False), (0, True), (8 if FULL else 1, False)):
        dls = image_dls(df, size=px, bs=64 if FULL else 16, seed=0, num_workers=workers, cache=cache)
        learn = fopro_learner(dls, BIG['student'], FrozenTeacher(timm.create_model(BIG['teacher'], num_classes=0), size='image')); cb = Share(); cb.order = -1000
        if GPU: learn.to_bf16()
        late = type('Late', (Callback,), dict(order=1000, after_batch=lambda s: (wait(), setattr(cb, 't', time.perf_counter())) if s.training else None))()
        cb.after_batch = lambda: None
        fit(learn, 0, 2, cbs=[cb, late])
        say('INFO', f"waiting for images, {workers} workers{', decoded images in memory' if cache else ''}, pinned {dls.train.fake_l.pin_memory}", f'{cb.gap / cb.total:.0%} of {cb.total:.2f} s ({len(dls.train)} batches of {px} px)')

@check
def sensitivity():
    "Map of a model beside its bare forward passes, and the noise under it"
    n, px = (8, 64) if FULL else (2, 16)
    t, x = FrozenTeacher(timm.create_model(BIG['teacher'] if FULL else 'test_resnet', num_classes=0), size='image').to(DEV), torch.rand(n, 3, px, px, device=DEV)
    for tf32 in (True, False):
        with exact(tf32=tf32, deterministic=False), torch.no_grad():
            if tf32: sensitivity_map(t, x, step=8, progress=False)
            wait(); s = time.perf_counter(); m = sensitivity_map(t, x, progress=False, tol=0.); wait(); s = time.perf_counter() - s
            passes = int(m.measured.sum()) * n; many = x[torch.arange(256, device=DEV) % n]; wait(); r = time.perf_counter()
            for _ in range(max(passes // 256, 1)): t(many)
            wait(); r = time.perf_counter() - r
            floor = sensitivity_map(t, x[:2], eps=1e-9, step=16, progress=False).l2; own = m.l2[:2]
            say('INFO', f'sensitivity map {px} px, {n} images, TF32 {tf32}', f'{s:.1f} s, {s / max(r, 1e-9):.2f} of bare passes; relative distance: median {np.median(own):.2g}, lowest {own.min():.2g}; of no wave at all (noise): median {np.median(floor):.2g}, highest {floor.max():.2g}')
            if FULL and not tf32: need(s / r < 1.6, 'map below 1.6 of the bare forward passes', f'{s / r:.2f}')
            if GPU: need(np.quantile(own, .01) > 3 * np.median(floor), f'map stands above the noise, TF32 {tf32}')


def main():
    if args.part:
        try: dict(load=load_part, nccl=nccl_part)[args.part]()
        except Exception as e: say('FAIL', args.part, f'{type(e).__name__}: {" ".join(str(e).split())[:260]}')
    else:
        where = torch.cuda.get_device_name() if GPU else 'CPU'
        import fastai, foprokd
        say('INFO', 'machine', f'{where}; torch {torch.__version__}, timm {timm.__version__}, fastai {fastai.__version__}, foprokd {foprokd.__version__} at {Path(foprokd.__file__).parent}; Python {sys.version.split()[0]}')
        order = 'placement given_on_device amp scaler layout speed waits prior fourier nccl resume sensitivity data_wait export compiled'.split()
        for name, f in ((k, CHECKS[k]) for k in order):
            if args.only and name not in args.only.split(',') or name in args.skip.split(','): continue
            gone = time.perf_counter() - START
            if gone > args.budget: say('SKIP', name, f'{gone:.0f} s are over'); continue
            print(f'--- {name} ({" ".join((f.__doc__ or "").split())}), at {gone:.0f} s', flush=True)
            try: f()
            except Exception as e:
                say('FAIL', name, f'{type(e).__name__}: {" ".join(str(e).split())[:300]}')
                print('     ' + ' < '.join(f'{Path(o.filename).name}:{o.lineno}' for o in traceback.extract_tb(e.__traceback__)[::-1][:6]), flush=True)
            free()
    n = {k: sum(o[0] == k for o in RESULTS) for k in ('PASS', 'FAIL', 'SKIP')}
    if not args.part: print(f"RESULT {n['PASS']} pass, {n['FAIL']} fail, {n['SKIP']} skipped, {time.perf_counter() - START:.0f} s" + (f", peak {torch.cuda.max_memory_reserved() / 2**30:.1f} GiB reserved" if GPU else ''))
    sys.exit(1 if n['FAIL'] else 0)

if __name__ == '__main__': main()
