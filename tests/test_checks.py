"The rules of the house in tools/checks.py: each check fails on a small bad example, and holds for every notebook."
import base64
import io
import itertools
import json

import pages
import pytest
from PIL import Image

from checks import (
    PER_PAGE,
    TEST_FLAGS,
    WINGS,
    _around,
    _last,
    _made,
    cell_flags,
    cell_source,
    cell_trees,
    check_code,
    check_docs,
    check_docstrings,
    check_flags,
    check_length,
    check_linked,
    check_listed,
    check_modules,
    check_order,
    check_outputs,
    check_page,
    check_readable,
    check_readme,
    check_shown,
    check_sources,
    check_tested,
    check_weights,
    house_problems,
    is_exported,
    module_of,
    modules,
    own_imports,
    public_names,
    read_notebooks,
    readme_text,
    write_readme,
    write_version,
)

ids = map('n{}'.format, itertools.count())
P = '05_prompt'


def md(s): return dict(cell_type='markdown', id=next(ids), metadata={}, source=s)


def code(s, *outputs, id=None):
    return dict(cell_type='code', id=id or next(ids), metadata={}, source=s, outputs=list(outputs), execution_count=None)


def nb(*cells): return dict(cells=list(cells), metadata={}, nbformat=4, nbformat_minor=5)


def shown(s): return dict(output_type='stream', name='stdout', text=s.splitlines(True))


LAST = code(_last)
GOOD = nb(md('# Title\n\n> A sentence.'), code('#| default_exp prompt'), code('#| export\nx = 1'), LAST)


def good_for(exp): return nb(GOOD['cells'][0], code(f'#| default_exp {exp}'), *GOOD['cells'][2:])


# A notebook as plain data.

def test_cells_are_read_as_nbdev_reads_them():
    assert cell_flags(code('#| export\n#|slow  data\n\nx = 1\n#| cuda')) == [['export'], ['slow', 'data']]
    assert cell_flags(md('#| export')) == [] and cell_source({'source': ['a\n', 'b']}) == 'a\nb'
    assert is_exported(code('#| exports\nx = 1')) and not is_exported(code('x = 1\n#| export'))
    assert [type(o).__name__ for o in cell_trees(code('%matplotlib inline\nx = 1'))] == ['Assign'] and cell_trees(md('x')) == []
    with pytest.raises(SyntaxError): cell_trees(code('x ='))


def test_notebooks_are_found_in_every_wing(tmp_path):
    for n in ('05_b', '00_a', '_c', 'data/01_d', '_proc/00_e', 'data/.ipynb_checkpoints/01_d'):
        (tmp_path/n).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path/f'{n}.ipynb').write_text(json.dumps(nb(md(n))))
    assert list(read_notebooks(tmp_path)) == ['00_a', '05_b', 'data/01_d']


def test_the_path_of_a_notebook_gives_its_module(tmp_path):
    paths = {'05_prompt': 'prompt', 'data/01_longtail': 'data.longtail', 'data/01a_tails': 'data.tails', 'index': '', 'data/1_x': '', '05_X': ''}
    assert {k: module_of(k) for k in paths} == paths
    for n in ('__init__', 'a', '_modidx', 'data/__init__', 'data/b'):
        (tmp_path/'foprokd'/n).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path/'foprokd'/f'{n}.py').touch()
    assert modules(tmp_path) == ['a', 'data.b']


# One notebook.

@pytest.mark.parametrize('stem,exp,said', [
    (P, 'prompt', None), ('data/05_prompt', 'data.prompt', None), ('05_prompts', 'prompt', 'is not the path'), ('data/05_prompt', 'prompt', 'is not the path'),
    (P, 'data.prompt', 'is not the path'), ('tutorials/05_prompt', 'tutorials.prompt', 'export nothing'), ('other/05_prompt', 'other.prompt', 'is no wing')])
def test_a_page_has_the_path_of_its_module(stem, exp, said):
    res = check_page(stem, good_for(exp))
    assert (said in res[0] and len(res) == 1) if said else res == []


def test_a_page_of_a_wing_that_is_not_exported_is_found():
    bare = nb(GOOD['cells'][0], code('x = 1'), LAST)
    assert check_page('data/05_prompt', bare) == ['data/05_prompt: a page of a wing exports a module']
    assert check_page('tutorials/05_prompt', bare) == []


def test_title_ids_and_last_cell():
    bad = nb(md('# Title\n\n> A sentence.\n\nLost on the site.'), code('#| export\nx = 1', id='a'), code('y', id='a'), code('z', id='not an id'))
    assert len(check_page(P, bad)) == 5 and len(check_page('prompt', GOOD)) == 2
    assert 'starts with `# `' in check_page(P, nb(GOOD['cells'][0], md('# Another'), *GOOD['cells'][1:]))[0]
    assert check_page(P, nb()) and 'without output' in check_page(P, nb(*GOOD['cells'][:-1], code(_last, {'output_type': 'stream'})))[0]


def test_flags_that_nbdev_does_not_read():
    fine = nb(code('#| hide\n#| data\nx = """\n#| slow\n"""'), code('#| label: fig-a\n#| fig-cap: "A spectrum"\ny = 1 #|hide_line'))
    assert check_flags(P, GOOD) == check_flags(P, fine) == [] and sorted(TEST_FLAGS) == ['cuda', 'data', 'long', 'rivals', 'slow', 'weights']
    worse = nb(code('#| slow data\nx'), code('#| export\n#| cuda\nx'), code('#| eval: false\nx'), code('#| slwo\nx'), code('x = 1\n#| data\ny = 2'),
               dict(md('---\nskip_exec: true\n---'), cell_type='raw'))
    assert len(check_flags(P, worse)) == 6


def test_what_may_not_be_saved():
    tidy = nb(code('a', shown('0.5 /px, 3/4 of n/a\n')), code('b', dict(output_type='display_data', data={'image/png': 'A' * 1000})))
    assert check_outputs(P, tidy) == []
    noisy = nb(code('a', dict(output_type='error', ename='ValueError')), code('b', dict(output_type='stream', name='stderr', text='x')),
               code('c', shown("Path('/home/me/x.png')")), code('d', shown('epoch 50%|#####     | 5/10')),
               code('e', dict(output_type='display_data', data={'text/html': ['<td>0.5</td>\n', '<td>00:03</td>']})),
               code('f', dict(output_type='display_data', data={'image/png': 'A' * 90_000})), code('g', shown('UserWarning: x')))
    assert len(check_outputs(P, noisy)) == 7 and check_outputs(P, nb(md('A' * 2048)), max_kb=2) == [f'{P}: 2 KB, more than 2']


def test_imports_have_cells_of_their_own():
    quiet = nb(code('#| export\nimport ast\nfrom pathlib import Path'), LAST, code('#| export\ndef f():\n    import onnx\n    return onnx'), code('from math import *'))
    assert check_code(P, quiet) == []
    loud = nb(code('#| export\nimport ast\nx = 1'), code('#| data\nimport os\nprint(os.sep)'))
    assert len(check_code(P, loud)) == 2


def test_public_names_and_arguments_are_documented():
    told = nb(code('#| export\nclass A:\n    "Doc"\n    def __init__(self,\n        size:int=3 # Pixels\n    ): pass\ndef _f(x): pass'),
              code('#| export\n@patch\ndef show(self:A,\n    **kwargs # Passed on\n):\n    "Doc"'))
    untold = nb(code('#| export\nclass A:\n    def __init__(self, size): pass'), code('#| export\n@patch\ndef show(self:A, x):\n    "Doc"'))
    assert check_docs(P, told) == [] and len(check_docs(P, untold)) == 3


def test_exported_names_are_asserted_nearby():
    tested = nb(code('#| export\nLIMIT = 3\ndef f(x): return x'), code('#| export\n@patch\ndef show(self:A): pass'), md('Prose'), code('f(2)'),
                code('test_eq(f(2), 2); assert LIMIT == 3'), code('with ExceptionExpected(ValueError): A().show()'))
    assert public_names(tested) == [('LIMIT', 0), ('f', 0), ('A.show', 1)] and check_tested(P, tested) == []
    assert check_tested(P, tested, within=1) == [f'{P}: `A.show` is exported but not asserted in the next 1 test cells']
    untested = nb(code('#| export\ndef f(x): return x\ndef g(x): return x'), code('test_dl(f(2))'), code('#| data\nassert f(2)'), code('assert 1 # g'))
    assert len(check_tested(P, untested)) == 2


FULL = '''#| export
LOW = .1 # cycles/pixel
def _refuse(x):
    if x is None: raise ValueError('no image')

def blur(
    x:Tensor, # (B,C,H,W) images
    cut:float=LOW, # First frequency that goes, cycles/pixel
    **kwargs # Passed on
)->Tensor: # (B,C,H,W) images
    "Weaken fine detail"
    _refuse(x)
    return x

class A:
    "Doc"
    def show(self): "Draw it"'''
TERSE = '''#| export
LOW = .1

def blur(
    x:Tensor, # Images
    cut:float=LOW, # Where to cut
    *args, size:int=64, # Side
    **kwargs
):
    "Weaken. Or not"
    return x

class A:
    "Doc"
    n:int = 3
    def show(self, ax): pass'''


def test_shapes_units_and_results_are_said_and_errors_need_not_be():
    assert check_docstrings(P, nb(code(FULL))) == [] and len(check_docstrings(P, nb(code(TERSE)))) == 10


@pytest.mark.parametrize('old,new', [('# (B,C,H,W) images\n    cut', '# Images\n    cut'), (', cycles/pixel\n    **', '\n    **'), (' # Passed on', ''),
                                     ('\n)->Tensor: # (B,C,H,W) images', '\n)->Tensor:'), ('LOW = .1 # cycles/pixel', 'LOW = .1'), ('"Draw it"', 'pass')])
def test_each_gap_in_a_docstring_is_found(old, new):
    assert old in FULL and len(check_docstrings(P, nb(code(FULL.replace(old, new))))) == 1


def test_somebody_says_whose_a_name_is():
    def choice(s): return md('::: {.callout-note}\n## Choice\n' + s + '\n:::')
    two = code('#| export\ndef f(): "Doc (ours)"\ndef g(): "Doc"')
    for o in ('Ours.', 'The FFT is the paper\'s. All else here is ours.', 'Ours: `g`.'): assert check_sources(P, nb(choice(o), two)) == []
    assert len(check_sources(P, nb(two))) == len(check_sources(P, nb(choice('Ours: the bound.'), two))) == 1
    assert check_sources('tutorials/00_tour', nb(code('1'))) == []


def test_a_visible_cell_uses_each_name():
    f = code('#| export\ndef f(x): return x')
    assert check_shown(P, nb(f, code('f(2)'))) == check_shown(P, nb(code('#| export\nLIMIT = 3\nclass A: "Doc"\n'), code('LIMIT + A.n'))) == []
    hidden = [code('#| hide\nf(2)'), code('#| data\nf(2)'), code('test_fail(lambda: f(2))'), code('with ExceptionExpected(ValueError): f(2)')]
    for cells in ([f, *hidden], [code('f(2)'), f]): assert len(check_shown(P, nb(*cells))) == 1


# All notebooks, and the files around them.

def test_the_list_of_names_is_complete():
    def listed(text): return nb(code('table()', dict(output_type='display_data', data={'text/markdown': text})))
    page, f, g = 'reference/01_names', nb(code('#| export\ndef f(x): return x')), nb(code('#| export\ndef g(x): return x'))
    both = listed('| [`f`](../05_prompt.ipynb#f) | [`g`](../data/00_tails.ipynb#g) |')
    assert check_listed({'05_prompt': f, 'data/00_tails': g, page: both}) == []
    assert len(check_listed({'05_prompt': g, 'data/00_tails': g, page: both})) == 2 and len(check_listed({'05_prompt': f})) == 1


ROOMS = {'00_spectrum': nb(code('#| export\nimport torch')), P: nb(code('#| export\nfrom foprokd.spectrum import to_spectrum')),
         'data/00_files': nb(code('#| export\nx = 1')), 'data/01_tails': nb(code('#| export\nfrom foprokd.data import files\nfrom foprokd.data.files import x')),
         '15_losses': nb(code('#| export\nimport foprokd.data.tails'), code('from foprokd.learner import fopro_learner'))}


def test_own_imports_are_read():
    mods = {'data', 'data.files'}
    assert own_imports(ROOMS['data/01_tails'], mods) == {'data.files': ['x']} and own_imports(ROOMS['15_losses']) == {'data.tails': []}
    assert own_imports(nb(code('import foprokd.spectrum'))) == {}, 'it is not exported'
    assert own_imports(nb(code('#| export\nimport foprokd'))) == {}, 'the package itself is no module'


@pytest.mark.parametrize('stem,source,said', [
    ('00_spectrum', 'def f():\n    from foprokd.prompt import p', 'imports `prompt`, which is not below it'), ('data/00_files', 'from foprokd.data import tails', 'not below it'),
    ('data/00_files', 'import foprokd.data.tails', 'not below it'), ('15_losses', 'from foprokd.gone import x', 'imports `gone`, which no notebook makes'),
    ('15_losses', 'from foprokd.data.gone import x', 'no notebook makes'), ('15_losses', 'from foprokd.prompt import _x', 'private name `_x`'),
    ('data/00_tails', 'x = 1', 'data/00: two pages have this number')])
def test_an_import_against_the_order_is_found(stem, source, said):
    assert check_order(ROOMS) == []
    [problem] = check_order({**ROOMS, stem: nb(code(f'#| export\n{source}'))})
    assert said in problem


def test_modules_and_notebooks_are_in_step():
    have = ['spectrum', 'prompt', 'losses', 'data.files', 'data.tails']
    assert check_modules(ROOMS, have) == check_modules(ROOMS, [*have, 'all']) == []
    assert check_modules(ROOMS, [*have[:-1], 'tails']) == ['tails: exported by no notebook', 'data.tails: not exported yet']


def test_a_long_module_is_found():
    assert check_length({'data.files': 400, 'data.tails': 401}) == ['data.tails: 401 lines, more than 400: part its notebook']


def test_the_readme_is_the_front_page(tmp_path):
    front = nb(md('# Name\n\n> What.'), md('See [spectrum](00_spectrum.ipynb#top), [tails](data/01_tails.ipynb), <img src="images/a.svg">.'), code('#| hide\nimport os'),
               code('#| echo: true\n1 + 1', shown('2\n')))
    assert readme_text(front) == (f'{_made}\n\n# Name\n\n> What.\n\nSee [spectrum](nbs/00_spectrum.ipynb#top), [tails](nbs/data/01_tails.ipynb), <img src="nbs/images/a.svg">.\n\n'
                                  '```python\n1 + 1\n```\n\n```\n2\n```\n')
    (tmp_path/'nbs').mkdir()
    (tmp_path/'nbs'/'index.ipynb').write_text(json.dumps(front))
    write_readme(tmp_path)
    text = (tmp_path/'README.md').read_text()
    assert check_readme(text, front) == [] and len(check_readme(text + 'More.\n', front)) == 1
    assert check_readme(text, front, most=3) == ['README.md: 15 lines, more than 3']


def test_two_pictures_of_the_site_become_one_that_follows_the_system():
    front = nb(md('<img class="light-content" src="images/a.svg" alt="A." width="100%">\n<img class="dark-content" src="images/b.svg" alt="A." width="100%">'))
    assert readme_text(front).split('\n\n', 1)[1] == ('<picture>\n<source media="(prefers-color-scheme: dark)" srcset="nbs/images/b.svg">\n'
                                                      '<img src="nbs/images/a.svg" width="100%" alt="A.">\n</picture>\n')


def test_the_list_of_pages_has_each():
    pages = nb(md('[a](../data/01_a.ipynb) [b](09_b.ipynb#c) [gone](../train/01_x.ipynb)'))
    names = ('index', 'data/01_a', 'data/02_c', 'reference/09_b', 'reference/08_pages')
    assert check_linked({n: pages for n in names}) == ['reference/08_pages: does not link data/02_c', 'reference/08_pages: links train/01_x, which is not there']
    assert len(check_linked({'data/01_a': pages})) == 1


def test_the_version_of_the_settings_is_written_into_the_package(tmp_path):
    (tmp_path/'foprokd').mkdir()
    (tmp_path/'settings.ini').write_text('[DEFAULT]\nversion = 1.2.3\n')
    (tmp_path/'foprokd'/'__init__.py').write_text('"Doc"\n__version__ = "0.1.0"\n')
    write_version(tmp_path)
    assert (tmp_path/'foprokd'/'__init__.py').read_text() == '"Doc"\n__version__ = "1.2.3"\n'


def test_weights_are_small_and_have_a_card():
    assert check_weights({'t.safetensors': 2**20}, 'The file t.safetensors ...') == [] and len(check_weights({}, '')) == 1
    assert check_weights({'t.safetensors': 3 * 2**20}, '') == ['t.safetensors: 3.0 MB, more than 2', 't.safetensors: no card in data_cards/ names it']


READABLE = {  # measure of tools/pages.py: cells in which it counts one place
    'shown lines over 88 columns': [code('x = 1 # ' + 'a' * 90)], 'exported lines over 100 columns': [code('#| export\nx = 1 # ' + 'a' * 95)],
    'exported cells over 25 lines': [code('#| export\n' + '\n'.join(f'_x{i} = {i}' for i in range(26)))],
    'lines with a semicolon between statements': [code('#| hide\nif True: x = 1; y = 2')],
    'shown lines with several statements': [code('def f(x): return x\nf(1)')],
    'names from hidden cells in shown ones': [code('#| hide\nhelper = 1'), code('print(helper)')],
    'private names in shown cells': [code('print(a._inner)')], 'shown lines in cells without output': [code('x = 1')],
    'public names in backticks in docments': [code('#| export\n_x = 1 # as `known` gives it')],
    'public names in backticks inside a link': [md('See [the `known` one](a.ipynb).')],
    'headings of methods without class and source': [code('#| export\n@patch\n@torch.no_grad()\ndef f(self:A): pass')],
    'exported cells with several public names': [code('#| export\ndef f(): pass\ndef g(): pass')],
    'indented code without a copy button': [md('Run\n\n    foprokd_run --data x')]}

@pytest.mark.parametrize('what', READABLE)
def test_what_makes_a_page_hard_to_read_is_counted(what):
    page, fine = nb(*READABLE[what]), nb(md('A `known` name and\n\n- a list\n\n    of one'), code('x = 1\nx', shown('1')), code('#| hide\n_y = x'))
    assert len(pages.places(page, {'known'})[what]) == 1 and pages.places(fine, {'known'})[what] == []
    assert set(READABLE) | {'figures under 480 px'} == set(pages.MEASURES) and len(pages.NEVER) >= 5
    linked = nb(code('x', dict(output_type='display_data', data={'text/markdown': ['| [`known`](a.ipynb) |\n']})))
    assert len(pages.places(linked, {'known'})['public names in backticks inside a link']) == 1, 'nbdev links names in outputs too'
    assert any(what in o for o in check_readable({'05_prompt': nb(*page['cells'], code('#| export\ndef known(): pass'))})) == (what in pages.NEVER)


def test_the_width_of_a_figure_is_that_on_the_page():
    buffer = io.BytesIO()
    Image.new('RGB', (600, 10)).save(buffer, 'PNG')
    data = {'image/png': base64.b64encode(buffer.getvalue()).decode()}
    for told, small in ({}, 0), ({'image/png': {'width': 300}}, 1):
        page = nb(code('1', dict(output_type='display_data', data=data, metadata=told)))
        assert len(pages.places(page)['figures under 480 px']) == small and pages.totals(page)['figures'] == 1


def test_every_check_is_asked(tmp_path):
    "A repository of bad pages in a wing"
    for o in ('nbs/data', 'foprokd/data', 'data_cards'): (tmp_path/o).mkdir(parents=True)
    ugly = nb(code('#| export\n#| slow\nfrom foprokd.gone import x\ndef f(x): return x', shown('/home/me')))
    (tmp_path/'nbs'/'data'/'05_prompt.ipynb').write_text(json.dumps(ugly))
    (tmp_path/'nbs'/'data'/'.notest').touch()
    (tmp_path/'pyproject.toml').write_text('[tool.nbdev]\ntst_flags = "slow|cuda"\n')
    (tmp_path/'foprokd'/'data'/'old.py').write_text('\n' * 401)
    (tmp_path/'foprokd'/'_modidx.py').write_text('\n' * 401)  # generated
    problems = house_problems(tmp_path)
    for part in ('title', 'definition', 'path of a machine', 'imports share', 'docstring', 'not asserted', 'does not say what it returns', 'Choice', 'at work', 'not listed',
                 'no notebook makes', 'exported by no notebook', 'not exported yet', 'old: 401 lines', 'no safetensors', 'index.ipynb', 'tst_flags', '.notest'):
        assert any(part in o for o in problems), part


@pytest.fixture(scope='module')
def notebooks(root): return read_notebooks(root/'nbs')


@pytest.mark.parametrize('check', PER_PAGE, ids=lambda f: f.__name__)
def test_every_notebook_keeps_the_rule(notebooks, check):
    assert [o for stem, page in notebooks.items() for o in check(stem, page)] == []


def test_pages_are_in_order(notebooks): assert check_order(notebooks) == []


def test_names_are_listed(notebooks): assert check_listed(notebooks) == []


def test_files_around_the_notebooks_are_in_step(root, notebooks):
    assert {o.partition('/')[0] for o in notebooks} >= set(WINGS), 'the notebooks of a wing were not read'
    assert _around(root, notebooks) == []
