"""Properties that hold for any input, tried on inputs that hypothesis makes up: round trips, invariances, sums, and what readers may raise.

In CI the inputs are the same each time (profile `ci`); `HYPOTHESIS_PROFILE=seek python -m pytest tests/test_properties.py` looks for new ones."""
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

hypothesis = pytest.importorskip('hypothesis')
from hypothesis import HealthCheck, assume, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from foprokd.data.images import open_rgb  # noqa: E402
from foprokd.data.labels import read_labels  # noqa: E402
from foprokd.data.longtail import check_counts, class_counts, class_groups, imbalance_ratio, longtail_counts, sampling_weights, subsample_longtail  # noqa: E402
from foprokd.data.scan import inspect_file  # noqa: E402
from foprokd.data.splits import check_split, crossing_groups, split_data, split_folds, stratified_folds  # noqa: E402
from foprokd.data.tables import read_table  # noqa: E402
from foprokd.data.texts import clean_text, near_key  # noqa: E402
from foprokd.deploy.onnx_file import student_file  # noqa: E402
from foprokd.loading import read_checkpoint  # noqa: E402
from foprokd.losses import balanced_softmax_loss  # noqa: E402
from foprokd.measure.results import load_results  # noqa: E402
from foprokd.measure.rows import pack_ints, unpack_ints  # noqa: E402
from foprokd.prompt import RUNGS, FourierPromptGenerator  # noqa: E402
from foprokd.spectrum import (amplitude_phase, band_mask, field_norm, from_amplitude_phase, from_spectrum, full_plane, is_even,  # noqa: E402
                              make_even, polar_basis, radial_power, to_spectrum)
from foprokd.study.grid import read_grid  # noqa: E402
from foprokd.measure.lost import read_predictions  # noqa: E402

quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much]
settings.register_profile('ci', derandomize=True, database=None, deadline=None, max_examples=40, suppress_health_check=quiet)
settings.register_profile('seek', deadline=None, max_examples=2000, suppress_health_check=quiet)
settings.load_profile(os.environ.get('HYPOTHESIS_PROFILE', 'ci'))

sides = st.integers(1, 33)
# hypothesis would make a table of all of Unicode first, which takes ten seconds
letters = st.sampled_from('aBz19 _-./\\,;:"\'[]{}\t\u200b\xad\xa0\u00e9e\u0301\xdf\uff10\u0661\xb2\u2010\ufb01\U0001f600')
seeds = st.integers(0, 2**31 - 1)


def pictures(seed, size, channels=3, n=2):
    "(n,C,H,W) images in [0,1]"
    return torch.rand(n, channels, *size, generator=torch.Generator().manual_seed(seed))


def close(a, b, atol=2e-5): torch.testing.assert_close(a, b, rtol=1e-4, atol=atol)


# ------------------------------------------------------------------------------------------------------------ spectrum
@given(seeds, st.tuples(sides, sides))
def test_a_spectrum_goes_back_to_its_image_and_keeps_its_energy(seed, size):
    x = pictures(seed, size)
    close(from_spectrum(to_spectrum(x), size), x)
    close(from_amplitude_phase(*amplitude_phase(x), size), x)
    close(field_norm(to_spectrum(x), size[1]), x.flatten(1).norm(dim=1)) # Parseval


@given(seeds, st.tuples(sides, sides), st.integers(0, 40), st.integers(0, 40))
def test_a_shift_of_the_image_leaves_its_amplitudes(seed, size, i, j):
    x = pictures(seed, size)
    close(amplitude_phase(x.roll((i, j), (-2, -1)))[0], amplitude_phase(x)[0])


@given(seeds, st.tuples(sides, sides))
def test_an_even_field_keeps_images_real_and_stays_even(seed, size):
    field = torch.randn(size[0], size[1] // 2 + 1, generator=torch.Generator().manual_seed(seed))
    even = make_even(field, size[1])
    assert is_even(even, size[1]) and torch.equal(make_even(even, size[1]), even)
    plane = full_plane(even, size[1])
    mirror = plane.roll([-(n // 2) for n in size], (0, 1)).flip((0, 1)).roll([1 + n // 2 for n in size], (0, 1))
    close(mirror, plane, 0)
    x = pictures(seed, size)[0]
    y = torch.fft.ifft2(torch.fft.fft2(x, norm='ortho') * torch.fft.ifftshift(plane, dim=(-2, -1)), norm='ortho')
    close(y.imag, torch.zeros_like(x))
    close(y.real, from_spectrum(to_spectrum(x) * even, size))


@given(st.tuples(sides, sides), st.floats(0, .7), st.floats(0, .7), st.booleans())
def test_bands_beside_one_another_make_the_whole(size, a, b, keep_dc):
    low, high = sorted((a, b))
    assume(0 < low < high)
    parts = [band_mask(size, l, h, keep_dc) for l, h in ((0, low), (low, high), (high, None))]
    assert torch.equal(sum(parts), band_mask(size, keep_dc=keep_dc)) and all(is_even(p, size[1]) for p in parts)
    assert sum(parts)[0, 0] == (not keep_dc)


@given(st.tuples(sides, sides), st.integers(1, 9), st.integers(2, 9))
def test_cells_share_each_frequency_among_them(size, n_angle, n_radius):
    basis = polar_basis(size, n_angle, n_radius)
    assert basis.min() >= 0
    close(basis.sum(0), torch.ones(basis.shape[1]))


@given(seeds, st.tuples(st.integers(2, 33), st.integers(2, 33)), st.floats(.1, 9))
def test_a_profile_of_power_scales_with_the_square_and_knows_no_brightness(seed, size, factor):
    x = pictures(seed, size)
    f, p = radial_power(x)
    close(radial_power(x * factor)[1], p * factor**2, 1e-4 * factor**2)
    close(radial_power(x + 1)[1], p, 1e-4)


# -------------------------------------------------------------------------------------------------------------- prompt
def prompt_of(rung, seed, **kwargs):
    "A prompt of small size with weights that are no identity"
    p = FourierPromptGenerator(rung=rung, z_dim=4, hidden=8, n_radius=4, n_angle=3, **kwargs)
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for v in p.parameters(): v.copy_(torch.randn(v.shape, generator=g))
    return p.eval()


@given(st.sampled_from(RUNGS), seeds, st.tuples(st.integers(2, 24), st.integers(2, 24)), st.floats(.1, 2))
def test_a_prompt_changes_amplitudes_alone_within_its_bound(rung, seed, size, strength):
    p, x = prompt_of(rung, seed, strength=strength, shift=False), pictures(seed, size)
    z = p.sample_z(2, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad(): y, g = p(x, z), p.log_gain(x, z)
    assert g.abs().max() <= strength * (1 + 1e-5) and is_even(g, size[1])
    close(to_spectrum(y), to_spectrum(x) * g.exp(), 1e-4) # no phase moves, so the factor is real
    close(y.mean((-2, -1)), x.mean((-2, -1)), 1e-4) # nor does the mean colour


@given(seeds, st.tuples(st.integers(2, 24), st.integers(2, 24)))
def test_rungs_are_nested(seed, size):
    "Each rung holds the one before it: its cells, repeated, give the same images"
    x = pictures(seed, size)
    rungs = [r for r in RUNGS if r != 'latent']
    for small, large in zip(rungs, rungs[1:]):
        a, b = prompt_of(small, seed), prompt_of(large, seed)
        with torch.no_grad():
            b.cells.copy_(a.cells.expand_as(b.cells))
            b.dc.copy_(a.dc)
            close(b(x), a(x), 1e-4)


@given(st.sampled_from(RUNGS), seeds, st.integers(1, 3))
def test_a_saved_prompt_is_the_same_prompt(rung, seed, channels):
    p, x = prompt_of(rung, seed, channels=channels), pictures(seed, (9, 8), channels)
    with tempfile.TemporaryDirectory() as d:
        p.save(Path(d)/'p.safetensors')
        q = FourierPromptGenerator.from_file(Path(d)/'p.safetensors')
    z = p.sample_z(2, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad(): assert torch.equal(q(x, z), p(x, z))
    assert q.settings == p.settings


# -------------------------------------------------------------------------------------------------------------- counts
counts = st.lists(st.integers(1, 500), min_size=2, max_size=12)
profiles = st.sampled_from(['exponential', 'pareto'])


@given(st.integers(1, 5000), st.integers(2, 30), st.floats(1, 300), profiles, st.floats(.1, 4))
def test_a_long_tail_falls_from_its_head_by_its_ratio(n_max, c, ratio, profile, alpha):
    if n_max < ratio:
        with pytest.raises(ValueError, match='leaves the smallest class empty'): longtail_counts(int(ratio / 2), c, ratio, profile, alpha)
        return
    n = longtail_counts(n_max, c, ratio, profile, alpha)
    assert len(n) == c and n[0] == n_max and (np.diff(n) <= 0).all() and n[-1] == int(n_max / ratio + 1e-9)
    assert imbalance_ratio(n) >= ratio * (1 - 1e-6)


@given(counts, st.sampled_from(['tertile', (20, 100), (3, 400)]), st.randoms(use_true_random=False))
def test_groups_hold_each_class_once_whatever_the_order(n, rule, rnd):
    groups = class_groups(n, rule)
    assert sorted(sum(groups.values(), [])) == list(range(len(n)))
    order = [i for g in groups.values() for i in g]
    assert [n[i] for i in order] == sorted(n, reverse=True)
    shuffled = rnd.sample(range(len(n)), len(n))
    again = class_groups([n[i] for i in shuffled], rule)
    assert {k: sorted(n[shuffled[i]] for i in v) for k, v in again.items()} == {k: sorted(n[i] for i in v) for k, v in groups.items()}


@given(counts)
def test_weights_give_each_class_its_share(n):
    y = np.repeat(np.arange(len(n)), n)
    assert class_counts(y).tolist() == n == check_counts(n).tolist()
    share = {s: np.bincount(y, sampling_weights(n, y, s)) for s in ('instance', 'sqrt', 'class')}
    root = np.sqrt(n)
    for s, want in dict(instance=np.array(n) / sum(n), sqrt=root / root.sum(), **{'class': np.full(len(n), 1 / len(n))}).items(): np.testing.assert_allclose(share[s], want, rtol=1e-9)


@given(counts, st.floats(1, 50), st.integers(0, 99), st.integers(1, 4))
def test_a_cut_set_is_a_part_with_no_more_than_the_profile(n, ratio, seed, of_group):
    assume(max(n) >= ratio)
    y = np.repeat(np.arange(len(n)), n)
    keep = subsample_longtail(y, ratio, seed, groups=np.arange(len(y)) // of_group)
    assert (np.diff(keep) > 0).all() and np.array_equal(keep, subsample_longtail(y, ratio, seed, groups=np.arange(len(y)) // of_group))
    ranked = np.argsort(-np.array(n), kind='stable')
    assert np.bincount(y[keep], minlength=len(n))[ranked].tolist() == np.minimum(longtail_counts(max(n), len(n), ratio), np.array(n)[ranked]).tolist()


@given(counts, seeds, st.floats(-20, 20), st.integers(2, 50))
def test_balanced_softmax_knows_shares_and_differences_alone(n, seed, shift, factor):
    g, counts_ = torch.Generator().manual_seed(seed), torch.tensor(n)
    z, y = torch.randn(5, len(n), generator=g), torch.randint(len(n), (5,), generator=g)
    loss = balanced_softmax_loss(z, y, counts_)
    close(balanced_softmax_loss(z + shift, y, counts_), loss, 1e-4)
    close(balanced_softmax_loss(z, y, counts_ * factor), loss, 1e-4)
    close(balanced_softmax_loss(z, y, torch.full_like(counts_, factor)), torch.nn.functional.cross_entropy(z, y), 1e-4)


@given(st.lists(st.integers(0, 65535), max_size=300))
def test_packed_numbers_come_out_again(values): assert unpack_ints(pack_ints(np.array(values, int))).tolist() == values


# -------------------------------------------------------------------------------------------------------------- splits
@st.composite
def tables(draw):
    "A label table of two to four classes whose groups hold one to five images, some of two classes"
    c, n = draw(st.integers(2, 4)), draw(st.integers(24, 90))
    rng = np.random.default_rng(draw(seeds))
    group = np.repeat(np.arange(n), rng.integers(1, draw(st.integers(2, 6)), n))[:n]
    label = np.where(rng.random(n) < .05, rng.integers(0, c, n), rng.integers(0, c, n)[group % n])
    return pd.DataFrame(dict(image=[f'/nowhere/{i}.png' for i in range(n)], label=[f'c{k}' for k in label], group=[f'g{k}' for k in group]))


@settings(max_examples=15)
@given(tables(), st.integers(0, 99))
def test_no_group_is_on_two_sides_and_no_image_is_lost(df, seed):
    assume(df.label.nunique() > 1)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try: s, again = (split_data(df, seed=seed) for _ in range(2))
        except ValueError as e:
            assert 'cannot be cut into' in str(e)
            return
    assert crossing_groups(s) == [] and s.image.tolist() == df.image.tolist() and set(s.split) == {'train', 'valid', 'test'}
    check_split(s, leaks='refuse')
    assert s.split.tolist() == again.split.tolist()


@settings(max_examples=15)
@given(tables(), st.integers(2, 4), st.integers(0, 99))
def test_folds_part_the_images_and_no_group(df, k, seed):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try: f = split_folds(df, k, seed)
        except ValueError as e:
            assert 'cannot be cut into' in str(e)
            return
    assert set(f.fold) == set(range(k)) and (f.groupby('group').fold.nunique() == 1).all()
    assert np.array_equal(f.fold, stratified_folds(df.label, k, df.group, seed))


@given(st.text(letters, max_size=30))
def test_a_clean_name_is_clean_and_near_to_itself(text):
    clean = clean_text(text)
    assert clean_text(clean) == clean and near_key(clean) == near_key(text) == near_key(f' {text}\t')


# ------------------------------------------------------------------------------------------------------------- readers
READERS = {read_table: '.csv', (lambda f: read_labels(f, bad=None)): '.csv', read_checkpoint: '.safetensors', read_predictions: '.npz', load_results: '.jsonl', read_grid: '.yaml',
           student_file: '.onnx', open_rgb: '.png', FourierPromptGenerator.from_file: '.prompt.safetensors'}
BEGINNINGS = [b'', b'PK\x03\x04', b'\x89PNG\r\n\x1a\n', b'\xff\xd8\xff\xe0', b'\x80\x02', b'\x93NUMPY\x01\x00', b'{"', b'image,label\n', b'runs:\n', b'\x08\x08', (60).to_bytes(8, 'little') + b'{"__metadata__":']


@pytest.mark.parametrize('reader', READERS, ids=['table', 'labels', 'checkpoint', 'predictions', 'results', 'grid', 'student', 'image', 'prompt'])
@given(begin=st.sampled_from(BEGINNINGS), rest=st.binary(max_size=80) | st.text(letters, max_size=60).map(str.encode))
def test_a_reader_of_any_bytes_says_no_in_one_sentence_with_the_name(reader, begin, rest):
    "Or it reads them: a table of one column is a table"
    with tempfile.TemporaryDirectory() as d:
        file = Path(d)/f'some file{READERS[reader]}'
        file.write_bytes(begin + rest)
        try: reader(file)
        except (ValueError, OSError) as e:
            said = str(e)
            assert 'some file' in said and len(said) < 1000 and '\n' not in said, said


@given(rest=st.binary(max_size=80), begin=st.sampled_from(BEGINNINGS))
def test_the_look_at_an_image_never_raises(begin, rest):
    with tempfile.TemporaryDirectory() as d:
        (Path(d)/'a.png').write_bytes(begin + rest)
        found = inspect_file(str(Path(d)/'a.png'))
    assert found['problem'] and '\n' not in found['detail']


@given(st.lists(st.tuples(st.text(letters, min_size=1, max_size=12), st.sampled_from(['nævus', '01', 'NA', '1e5', 'a "b"', 'x,y'])), min_size=1, max_size=8))
def test_a_table_comes_back_as_text(rows):
    "Quotes, commas, names that look like numbers or like nothing"
    df = pd.DataFrame(rows, columns=['image', 'label'])
    with tempfile.TemporaryDirectory() as d:
        df.to_csv(Path(d)/'a.csv', index=False)
        again = read_table(Path(d)/'a.csv')
    assert again.values.tolist() == df.values.tolist()
