"Networks and files of others: layouts, classifiers, checkpoints, sizes, precisions, devices (FAULTS.md A1, A5, B1, B3, D3, D9, E5, E6, E9, E11)."
import copy
import re
import warnings
from types import SimpleNamespace

import pytest
import timm
import torch
import torchvision
from fastai.vision.learner import create_timm_model, create_vision_model
from torch import nn

from foprokd.backbone import feature_layout, fresh_copy, is_device_error, pool_features, without_classifier
from foprokd.frequency.reading import student_features
from foprokd.student import Student, load_student, write_student
from foprokd.study.features import TeacherFeatures, feature_maps
from foprokd.study.rivals import teacher_as_student
from foprokd.pixels import PixelSpace
from foprokd.teacher import FrozenTeacher, _check_backward

X = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
KNOWN = dict(mean=.5, std=.25)  # of a module that does not say how its images were normalised


def timms(name, **kwargs): return timm.create_model(name, num_classes=0, **kwargs).eval()


class Made(nn.Module):
    "A small network whose last step is given"
    def __init__(self, make=lambda m: m, d=8):
        super().__init__()
        self.conv, self.norm, self.make = nn.Conv2d(3, d, 3, 8, 1), nn.BatchNorm2d(d), make
    def forward(self, x): return self.make(self.norm(self.conv(x)))


@pytest.fixture
def quiet():
    "No warning at all"
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        yield


# ------------------------------------------------------------------------------------------------------- A1: layouts
def test_a1_maps_in_nhwc_give_the_networks_own_width():
    "A1: timm's MambaOut without pooling, teacher and student, the student's file, too"
    teacher = FrozenTeacher('test_mambaout', pretrained=False, global_pool='', size=64)
    with torch.no_grad(): maps = teacher.model(teacher.prepare(X))
    assert teacher.num_features == maps.shape[-1] == 256
    torch.testing.assert_close(teacher(X), maps.mean((1, 2)))
    student = Student('test_mambaout', 3, teacher_dim=256, global_pool='').eval()
    assert student.num_features == 256 and student(X, True)[1].shape == (2, 256)
    torch.testing.assert_close(student.deploy()(X), student(X))
    torch.testing.assert_close(student_features(student)(X), student.backbone(X).mean((1, 2)))


def test_a1_a_student_of_maps_comes_back_from_its_file(tmp_path):
    "A1: also where timm keeps no head on maps"
    student = Student('test_mambaout', 3, global_pool='').eval()
    file = write_student(student, tmp_path/'s.safetensors', list('abc'), [0.] * 3, [1.] * 3)
    torch.testing.assert_close(load_student(file)[0](X), student(X))


@pytest.mark.parametrize('side', [64, 72, (64, 96)])
@pytest.mark.parametrize('make', [lambda m: m, lambda m: m.permute(0, 2, 3, 1), lambda m: m.flatten(2), lambda m: m.flatten(2).transpose(1, 2),
                                  lambda m: m.mean((2, 3)), lambda m: m.mean((2, 3), keepdim=True), lambda m: m.mean((2, 3))[:, None]])
def test_a1_every_layout_is_pooled_to_the_same_vector(make, side):
    "A1: (B,d,h,w), (B,h,w,d), (B,d,n), (B,n,d) and what is pooled already; d = h = w among them"
    x = torch.rand(2, 3, *([side] * 2 if isinstance(side, int) else side))
    net = Made(make).eval()
    teacher = FrozenTeacher(net, size='image', **KNOWN)
    want = net.norm(net.conv((x - .5) / .25)).mean((2, 3))
    torch.testing.assert_close(teacher(x), want)
    student = Student(Made(make), 3).eval()
    assert (teacher.num_features, student.num_features) == (8, 8)
    torch.testing.assert_close(student.deploy()(x), student(x))
    if make(torch.zeros(2, 8, 8, 8)).ndim > 2:
        probe = teacher_as_student(teacher, 3, PixelSpace(), tune=True).eval()
        torch.testing.assert_close(probe.backbone(x), want)


def test_a1_torchvisions_swin_and_feature_maps():
    "A1: `features` of a torchvision Swin is (B,h,w,d); `feature_maps` gives (B,d,h,w) for every net"
    swin = torchvision.models.SwinTransformer([4, 4], 8, [1, 1], [1, 1], [4, 4]).features
    assert FrozenTeacher(swin, **KNOWN).num_features == Student(swin, 3).num_features == feature_layout(swin, X)[0] == 16
    [maps] = feature_maps(swin.eval(), X)
    assert maps.shape == (2, 16, 8, 8)
    torch.testing.assert_close(maps.mean((2, 3)), pool_features(swin(X), axis=3))
    assert [m.shape[1] for m in feature_maps(timms('test_mambaout'), X)] == [16, 32, 48, 64]


def test_a1_what_stays_ambiguous_is_refused_and_the_rest_is_not():
    "A1: a network of one size, (B,9,9): refused; with a width of its own: taken"
    fixed = Made(lambda m: m.reshape(2, -1)[:, :81].reshape(2, 9, 9) if m.shape[-1] == 8 else 1 / 0, d=4)
    for build in (lambda: FrozenTeacher(fixed, **KNOWN), lambda: Student(fixed, 3)):
        with pytest.raises(ValueError, match=r'\(2, 9, 9\) and does not say'): build()
    tokens = torchvision.models.VisionTransformer(64, 16, 1, 1, 24, 48)
    tokens.forward = lambda x: nn.Identity()(tokens.encoder(torch.cat([tokens.class_token.expand(len(x), -1, -1), tokens._process_input(x)], 1)))
    assert feature_layout(tokens.eval(), X) == (24, 2)  # (B,17,24), 64 pixels only


# --------------------------------------------------------------------------------------------------- A5: class logits
TORCHVISION = dict(resnet18=512, mobilenet_v3_small=1024, vgg11=4096, squeezenet1_1=512, densenet121=1024, efficientnet_b0=1280,
                   shufflenet_v2_x0_5=1024, convnext_tiny=768, mnasnet0_5=1280)


@pytest.mark.parametrize('name', TORCHVISION)
def test_a5_the_classifier_of_torchvision_is_cut(name):
    "A5: whatever the number of classes"
    with torch.device('meta'), torch.no_grad():
        out = without_classifier(torchvision.models.get_model(name, num_classes=7).eval())(torch.zeros(2, 3, 64, 64))
    assert pool_features(out).shape == (2, TORCHVISION[name])


def test_a5_teachers_and_students_of_torchvision_fastai_and_wrappers(quiet):
    "A5: features, not logits, and without a word where the statistics are given"
    tiny = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=9)
    fastais = create_vision_model(torchvision.models.resnet18, n_out=9, pretrained=False)
    of_timm = create_timm_model('test_resnet', n_out=9, pretrained=False)[0]
    for net, d in ((tiny, 512), (nn.DataParallel(tiny), 512), (fastais, 512), (of_timm, 96)):
        assert FrozenTeacher(net, **KNOWN).num_features == d
    assert FrozenTeacher(of_timm).mean.flatten()[0] == pytest.approx(timms('test_resnet').pretrained_cfg['mean'][0])
    assert tiny.fc.out_features == 9 and len(fastais) == 2  # the teacher is made of a copy
    student = Student(tiny, 9)
    assert student.num_features == 512 and isinstance(tiny.fc, nn.Identity)
    assert FrozenTeacher(Student('test_resnet', 9), **KNOWN).num_features == 96


def test_a5_an_unknown_classifier_is_named():
    "A5: a warning names the layer, also behind a softmax and in a wrapper, for teacher and student"
    class Net(Made):
        def __init__(self, end=nn.Identity()):
            super().__init__()
            self.out, self.end = nn.Linear(8, 9), end
        def forward(self, x): return self.end(self.out(super().forward(x).mean((2, 3))))
    for net, layer in ((Net(), 'out'), (Net(nn.Softmax(1)), 'out'), (nn.Sequential(Net(nn.Dropout())), '0.out')):
        for build in (lambda n: FrozenTeacher(n, **KNOWN), lambda n: Student(n, 9)):
            with pytest.warns(UserWarning, match=f"last linear layer '{layer}', 8 to 9 values"): build(net)
    class Holds(nn.Module):
        def __init__(self): super().__init__(); self.net = timm.create_model('test_resnet', num_classes=9)
        def forward(self, x): return self.net(x)
    with pytest.warns(UserWarning, match="layer 'net.fc'|layer 'net.head"): FrozenTeacher(Holds(), **KNOWN)


def test_a5_no_false_alarm(quiet):
    "A5: bodies, norms and activations at the end are features; timm's names and modules never warn"
    ends = nn.ReLU(), nn.LayerNorm(9), nn.BatchNorm1d(9), nn.ReLU(inplace=True)
    for end in ends:
        net = nn.Sequential(Made(lambda m: m.mean((2, 3))), nn.Linear(8, 9), end).eval()
        assert FrozenTeacher(net, **KNOWN).num_features == Student(net, 3).num_features == 9
    for net in (Made(), timms('test_resnet'), timms('test_vit')): FrozenTeacher(net, **KNOWN if isinstance(net, Made) else {})
    FrozenTeacher('embedded')
    Student('test_vit', 3)


# ------------------------------------------------------------------------------------------------ B1: published files
def under(prefix, sd): return {prefix + k: v for k, v in sd.items()}


V, R = (timms(n).state_dict() for n in ('test_vit', 'test_resnet'))
HEAD = {'head.0.weight': torch.ones(8, 96)}
FILES = {
    'DINOv2': ('test_vit', V | dict(mask_token=torch.zeros(1, 64))),
    'Lightning': ('test_resnet', dict(state_dict=under('model.', R) | HEAD, epoch=3)),
    'SimCLR': ('test_resnet', under('backbone.', R) | under('projection_head.', HEAD)),
    'encoder': ('test_vit', dict(model=under('encoder.', V) | {'decoder.weight': torch.ones(2)})),
    'MoCo v3': ('test_resnet', dict(state_dict=under('module.base_encoder.', R) | under('module.momentum_encoder.', R))),
    'MoCo v2': ('test_resnet', dict(state_dict=under('module.encoder_q.', R) | under('module.encoder_k.', R))),
    'fastai, timm': ('test_resnet', dict(model=under('0.model.', R) | {'1.8.weight': torch.ones(8, 9)}, opt={})),
    'two levels': ('test_resnet', under('model.student.backbone.', R)),
    'a table in a table': ('test_vit', dict(teacher=under('backbone.', V) | HEAD, epoch=100)),
    'MAE': ('test_vit', dict(model=V | {'mask_token': torch.zeros(1, 1, 8), 'decoder_embed.weight': torch.ones(8, 64), 'decoder_blocks.0.norm1.bias': torch.ones(8)})),
    'an own classifier': ('test_resnet', R | {'fc.weight': torch.ones(5, 96), 'fc.bias': torch.ones(5)}),
}


@pytest.mark.parametrize('kind', FILES)
def test_b1_published_files_load(kind, tmp_path, quiet):
    "B1: teacher and student get every weight of the file"
    arch, held = FILES[kind]
    torch.save(held, tmp_path/'w.pth')
    want = dict(test_vit=V, test_resnet=R)[arch]
    for net in (FrozenTeacher(arch, ckpt=tmp_path/'w.pth').model, Student(arch, 3, ckpt=tmp_path/'w.pth').backbone):
        assert all(v.equal(want[k]) for k, v in net.state_dict().items())


def test_b1_fastais_own_body_loads_from_the_file_of_its_learner(tmp_path, quiet):
    "B1: `0.` before the keys of a module"
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    torch.save(dict(model=under('0.', body.state_dict()) | {'1.2.weight': torch.ones(3)}), tmp_path/'w.pth')
    twin = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert FrozenTeacher(twin, ckpt=tmp_path/'w.pth', **KNOWN).model[0].weight.equal(body[0].weight)


def test_b1_position_tables_of_another_size_are_resampled(tmp_path, quiet):
    "B1: as timm does for its own weights; also below a prefix and with a mask token"
    want = timm.layers.resample_abs_pos_embed(V['pos_embed'], new_size=[4, 4], num_prefix_tokens=1)
    for held in (V, under('backbone.', V), V | dict(mask_token=torch.zeros(1, 64))):
        torch.save(held, tmp_path/'w.pth')
        teacher = FrozenTeacher('test_vit', ckpt=tmp_path/'w.pth', img_size=64, size=64)
        torch.testing.assert_close(teacher.model.pos_embed, want)
        torch.testing.assert_close(Student('test_vit', 3, ckpt=tmp_path/'w.pth', img_size=64).backbone.pos_embed.detach(), want)


def test_b1_register_tokens_find_their_place_or_are_told(tmp_path):
    "B1: DINOv2's names in a network with registers; left out with a warning in one without"
    torch.save(V | dict(register_tokens=torch.zeros(1, 4, 64), mask_token=torch.zeros(1, 64)), tmp_path/'w.pth')
    with pytest.warns(UserWarning, match="'register_tokens', for which VisionTransformer has no place"): FrozenTeacher('test_vit', ckpt=tmp_path/'w.pth')
    net = timms('test_vit', reg_tokens=4, no_embed_class=True)
    own = net.state_dict()
    published = {k: v for k, v in own.items() if k != 'reg_token'} | dict(
        register_tokens=own['reg_token'], mask_token=torch.zeros(1, 64), cls_token=torch.rand(1, 1, 64), pos_embed=torch.cat([torch.rand(1, 1, 64), own['pos_embed']], 1))
    torch.save(published, tmp_path/'w.pth')
    got = FrozenTeacher('test_vit', ckpt=tmp_path/'w.pth', reg_tokens=4, no_embed_class=True).model
    assert got.reg_token.equal(own['reg_token']) and got.cls_token.equal(published['cls_token'] + published['pos_embed'][:, :1])


@pytest.mark.parametrize('held, words', [
    (under('student.', R) | under('teacher.', R), "2 networks that fit, under 'student.', 'teacher.'"),
    (dict(student=R, teacher=R), "2 networks that fit, under 'student.', 'teacher.'"),
    (under('trunk.', V), "only in the file: 'trunk.cls_token'"),
    ({k: v for k, v in under('backbone.', R).items() if 'layer2.0.conv1' not in k}, "missing: 'layer2.0.conv1.weight'"),
    (R | {'layer5.weight': torch.ones(2)}, "only in the file: 'layer5.weight'"),
    (R | {'bn1.weight': torch.ones(2)}, 'another architecture'),
    (R | {'conv1.0.weight': torch.ones(9, 3, 3, 3)}, r'conv1.0.weight. \(9, 3, 3, 3\) for'),
])
def test_b1_what_does_not_fit_is_shown(held, words, tmp_path):
    "B1: with keys of the file; a hole, an unknown part, two networks"
    torch.save(held, tmp_path/'w.pth')
    with pytest.raises(ValueError, match=words): FrozenTeacher('test_resnet', ckpt=tmp_path/'w.pth')


def test_b1_microsofts_swin_and_fastais_torchvision(tmp_path, quiet):
    "B1: timm's filter renames stages; a body under numbers is shown as the file has it"
    small = dict(depths=(1, 1, 1, 1), embed_dim=12, num_heads=(1, 1, 1, 1))
    sd = timm.create_model('swin_tiny_patch4_window7_224', **small).state_dict()
    def theirs(k): return re.sub(r'layers\.(\d)\.downsample', lambda m: f'layers.{int(m[1]) - 1}.downsample', k).replace('head.fc.', 'head.')
    torch.save(dict(model={theirs(k): v for k, v in sd.items()} | {'layers.0.blocks.0.attn.relative_position_index': torch.zeros(49, 49).long()}), tmp_path/'w.pth')
    for kw in (dict(size=224), dict(size=64)): FrozenTeacher('swin_tiny_patch4_window7_224', ckpt=tmp_path/'w.pth', **kw, **small)
    got = FrozenTeacher('swin_tiny_patch4_window7_224', ckpt=tmp_path/'w.pth', **small).model.state_dict()
    assert all(v.equal(sd[k]) for k, v in got.items())
    numbered = {f'0.{i}.{k}': v for i, c in enumerate(torchvision.models.resnet18().children()) for k, v in c.state_dict().items()}
    torch.save(dict(model=numbered), tmp_path/'w.pth')
    with pytest.raises(ValueError, match="missing: 'conv1.weight', .*; only in the file: '0.0.weight'"): Student('resnet18', 3, ckpt=tmp_path/'w.pth')


def test_b1_no_patch_size_is_resampled_by_accident(tmp_path):
    "B1: a ViT of patches of 8 is not one of 16, though timm's filter would make it so"
    torch.save(timms('test_vit', patch_size=8, img_size=80).state_dict(), tmp_path/'w.pth')
    with pytest.raises(ValueError, match='patch_embed.proj.weight'): FrozenTeacher('test_vit', ckpt=tmp_path/'w.pth')


# -------------------------------------------------------------------- B3, D3: precisions, devices, errors as they are
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
def test_b3_modules_of_another_precision_are_taken(dtype, quiet):
    "B3: they compute in float32, as teacher and as student"
    net = timms('test_resnet').to(dtype)
    want = FrozenTeacher(copy.deepcopy(net).float())(X)
    assert FrozenTeacher(net)(X).equal(want) and net.conv1[0].weight.dtype == dtype
    Student(copy.deepcopy(net), 3)(X).sum().backward()


def test_b3_every_error_is_told_as_what_it_is():
    "B3, D3: a size only where a size works, else what torch says; CUDA's own errors pass unchanged"
    gray = timms('test_resnet', in_chans=1)
    with pytest.raises(ValueError, match='(?s)fails on images of .* to have 1 channels') as e: FrozenTeacher(gray)
    assert 'size=' not in str(e.value)
    with pytest.raises(ValueError, match='images of 8x8 pixels .*give size=64'): FrozenTeacher(nn.Conv2d(3, 4, 20), size=8, **KNOWN)
    teacher = FrozenTeacher(nn.Conv2d(3, 4, 20), size='image', **KNOWN)
    with pytest.raises(ValueError, match='images of 8x8 pixels .*give size=64'): teacher(X[..., :8, :8])
    for fault, passes in ((torch.cuda.OutOfMemoryError('full'), True), (RuntimeError('CUDA error: device-side assert triggered'), True), (RuntimeError('odd'), False)):
        class Fails(nn.Module):
            def forward(self, x): raise fault
        with pytest.raises(type(fault) if passes else ValueError) as e: FrozenTeacher(Fails(), **KNOWN)
        assert is_device_error(fault) == passes and ((e.value is fault) if passes else 'fails on images of 64x64 pixels (odd)' in str(e.value))
        if passes:
            with pytest.raises(type(fault)): Student(Fails(), 3)
    with pytest.raises(ValueError, match='no weights yet'): FrozenTeacher(timms('test_resnet').to('meta'))


def test_d3_other_devices(monkeypatch):
    "D3: the blank image lies where the network is, the parts of a joined teacher follow the first, and a mismatch is named"
    asked = []
    class Spy(Made):
        def forward(self, x): asked.append(x.device); return super().forward(x)
    teacher = FrozenTeacher(Spy(), **KNOWN)
    assert set(asked) == {torch.device('cpu')}
    with pytest.raises(ValueError, match='is on cpu and the images are on meta: move one'): teacher(X.to('meta'))
    moved = []
    monkeypatch.setattr(nn.Module, 'to', lambda self, *a, _to=nn.Module.to, **k: (moved.append((type(self).__name__, a)), _to(self, *a, **k))[1])
    TeacherFeatures([teacher, FrozenTeacher('embedded')])
    assert ('TeacherFeatures', (torch.device('cpu'),)) in moved
    Student(Made(), 3, 4)
    assert ('Student', (torch.device('cpu'),)) in moved and ('FrozenTeacher', (torch.device('cpu'),)) in moved


def test_d9_the_resize_without_a_deterministic_gradient_is_told():
    "D9: on CUDA only, where a gradient is wanted, and only in strict mode"
    def asked(cuda=True, grad=True): _check_backward(SimpleNamespace(is_cuda=cuda, requires_grad=grad))
    asked()
    try:
        torch.use_deterministic_algorithms(True)
        with pytest.raises(ValueError, match="size='image'"): asked()
        asked(cuda=False), asked(grad=False)
        torch.use_deterministic_algorithms(True, warn_only=True)
        asked()
    finally: torch.use_deterministic_algorithms(False)


# ------------------------------------------------------------------------------------------- E5: statistics; E6: sizes
def test_e5_a_teacher_without_statistics_is_told():
    "E5: torchvision, fastai bodies and own modules; said once, and not where they are given"
    tiny = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1])
    for net in (tiny, nn.DataParallel(tiny), nn.Sequential(*list(tiny.children())[:-2]), Made()):
        with pytest.warns(UserWarning, match='give mean= and std=') as told: FrozenTeacher(net)
        assert len(told) == 1
    with pytest.warns(UserWarning, match='give mean= and std='): FrozenTeacher(Made(), mean=.5)


def test_e5_no_false_alarm(quiet):
    "E5: timm's networks know theirs, below DataParallel, too; files say them; mean=0, std=1 is an answer"
    assert FrozenTeacher(nn.DataParallel(timms('test_vit'))).mean.flatten().tolist() == [.5] * 3
    assert FrozenTeacher(Made(), mean=0, std=1).mean.sum() == 0
    FrozenTeacher(torch.optim.swa_utils.AveragedModel(timms('test_resnet')))


FIXED = [('vit_tiny_patch16_224', dict(depth=1)), ('levit_128s', {}), ('test_vit', dict(dynamic_img_size=False))]


@pytest.mark.parametrize('name, kwargs', FIXED, ids=lambda o: o if isinstance(o, str) else '')
def test_e6_networks_of_one_size_are_built_for_the_size_that_is_asked_for(name, kwargs, quiet):
    "E6: teacher and student by name, and the file of the student says it"
    teacher = FrozenTeacher(name, pretrained=False, size=64, **kwargs)
    assert teacher.size == 64 and teacher(X).shape == (2, teacher.num_features)
    student = Student(name, 3, size=64, **kwargs).eval()
    assert student(X).shape == (2, 3) and student.timm_kwargs['img_size'] == 64


class Fixed(Made):
    "Takes 64 pixels only"
    def forward(self, x): return super().forward(x).flatten(1).unflatten(1, (8, 64)).mean(2)


def test_e6_swin_modules_and_oblong_students(tmp_path):
    "E6: a module is set to the size (the teacher's copy, not the user's); what cannot be is told with a size that works"
    tiny = timm.create_model('swin_tiny_patch4_window7_224', depths=(1, 1), num_heads=(1, 1), embed_dim=8)
    assert FrozenTeacher(tiny, size=64)(X).shape == (2, 16) and tiny.patch_embed.img_size == (224, 224)
    student = Student('test_vit', 3, size=(32, 64), dynamic_img_size=False).eval()
    assert student(X[..., :32, :]).shape == (2, 3)
    file = write_student(student, tmp_path/'s.safetensors', list('abc'), [0.] * 3, [1.] * 3)
    assert load_student(file)[0](X[..., :32, :]).equal(student.deploy()(X[..., :32, :]))
    vit = torchvision.models.VisionTransformer(32, 16, 1, 1, 24, 48)
    assert FrozenTeacher(vit, **KNOWN).size == 32
    with pytest.raises(ValueError, match='images of 64x64 pixels .*give size=32'): FrozenTeacher(vit, size=64, **KNOWN)
    with pytest.raises(ValueError, match='(?s)The student .* cannot take images of 48x48 .* as it can of 64x64'): Student(Fixed(), 3, size=48)
    with pytest.raises(ValueError, match='(?s)The student .* fails on images of 64x64 .* to have 1 channels'): Student(timms('test_resnet', in_chans=1), 3)
    assert Student('vit_tiny_patch16_224', 3, size=32, in_chans=1, depth=1)(torch.rand(2, 1, 32, 32)).shape == (2, 3)


def test_e6_img_size_alone_is_the_size(quiet):
    "E6: who says img_size= need not say size=, and other networks are left as they are"
    assert FrozenTeacher('test_vit', pretrained=False, img_size=64, dynamic_img_size=False).size == 64
    assert FrozenTeacher('test_resnet', pretrained=False, size=48).size == 48 and Student('test_resnet', 3, size=48).timm_kwargs == {}


# -------------------------------------------------------------------------------------- E9: caches; E11: odd classifiers
def test_e9_what_layers_keep_in_eval_mode_does_not_stand_in_the_way():
    "E9: LeViT's cached biases: deployed, copied, made a teacher of, after a forward with gradients; trained weights count"
    student = Student('levit_128s', 3, size=64).eval()
    before = student(X)
    torch.testing.assert_close(student.deploy()(X), before)
    twin = fresh_copy(student)
    assert not twin.training
    student(X)
    assert FrozenTeacher(student.backbone, size=64).num_features == student.num_features
    with torch.no_grad():
        for k, p in student.named_parameters(): p.add_(torch.randn(p.shape) if 'attention_biases' in k else 0)
    student.eval()
    torch.testing.assert_close(student.deploy()(X), student(X))
    assert not student(X).allclose(before)


@pytest.mark.parametrize('kwargs, words', [
    (dict(classifier=nn.Linear(100, 3)), 'classifier= does not take vectors of length 96'),
    (dict(classifier=nn.Linear(96, 5)), r'classifier= gives \(2, 5\) for two images of 3 classes'),
    (dict(classifier=nn.Sequential(nn.Linear(96, 3), nn.Unflatten(1, (3, 1)))), r'gives \(2, 3, 1\)'),
    (dict(teacher_dim=20, aux_classifier=nn.Linear(96, 3)), 'aux_classifier= does not take vectors of length 20'),
    (dict(teacher_dim=20, aux_classifier=nn.Linear(20, 4)), r'aux_classifier= gives \(2, 4\)'),
])
def test_e11_a_classifier_of_the_wrong_width_is_refused(kwargs, words):
    "E11: at construction, with both widths"
    with pytest.raises(ValueError, match=words): Student('test_resnet', 3, **kwargs)


def test_e11_fitting_classifiers_are_taken(quiet):
    "E11: with dropout, BatchNorm, or a norm of their own"
    heads = nn.Linear(96, 3), nn.Sequential(nn.BatchNorm1d(96), nn.Dropout(), nn.Linear(96, 3, bias=False))
    for head in heads:
        Student('test_resnet', 3, 20, classifier=head, aux_classifier=nn.Linear(20, 3))
        assert all(m.training for m in head.modules())
