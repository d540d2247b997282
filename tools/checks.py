"""The rules of the house that no tool says: each takes plain data and returns a list of sentences, empty when all is well.

    python tools/checks.py          # names what is wrong, and fails if anything is
    python tools/checks.py readme   # writes README.md from nbs/index.ipynb, and the version of settings.ini into the package

Imports between parts of the house are import-linter's, code is ruff's, requirements are deptry's: see pyproject.toml and `tools/lint.py`.
Each check fails on a small bad example in tests/test_checks.py."""
import ast
import io
import json
import posixpath
import re
import sys
import tokenize
from configparser import ConfigParser
from pathlib import Path

try: import tomllib
except ImportError: import tomli as tomllib  # Python 3.10; nbdev brings it

# Folders of nbs/ that are sub-packages of foprokd/, and those that export nothing
WINGS = ('data', 'train', 'measure', 'frequency', 'deploy', 'study')
PAGES = ('tutorials', 'studies', 'reference')


def read_notebooks(
    folder:str|Path # Folder that holds the notebooks
)->dict[str, dict]: # Path below `folder` without its ending (`data/01_longtail`) -> notebook, in order
    "All notebooks of `folder` and its wings as plain data; what starts with `_` or `.` is left out, as nbdev does"
    paths = {p.relative_to(folder).with_suffix(''): p for p in Path(folder).rglob('*.ipynb')}
    names = sorted(o.as_posix() for o in paths if not any(part[0] in '_.' for part in o.parts))
    return {n: json.loads(paths[Path(n)].read_text(encoding='utf-8')) for n in names}

def module_of(
    stem:str # Path of a notebook below nbs/, without its ending: `data/01_longtail`, `38_learner`
)->str: # Module below the package, `data.longtail`; '' if the name is not two digits, perhaps a letter, and a name
    "The module that a notebook makes: its folder, and its name without the number"
    wing, _, name = stem.rpartition('/')
    found = re.fullmatch(r'\d\d[a-z]?_([a-z]\w*)', name)
    return '.'.join(filter(None, [wing.replace('/', '.'), found[1]])) if found else ''

def cell_source(
    cell:dict # Notebook cell
)->str: # Its text
    "Source of a cell, which the file keeps as a list of lines or as one string"
    return ''.join(cell['source'])

_directive = re.compile(r'\s*#\s*\|')
_magic = re.compile(r'^\s*[%!].*$', re.M)

def cell_flags(
    cell:dict # Notebook cell
)->list[list[str]]: # The words of each leading directive line
    "Directives as nbdev finds them: comment lines `#|` before the first line of code"
    res = []
    if cell['cell_type'] != 'code': return res
    for line in cell_source(cell).splitlines():
        if _directive.match(line): res.append(_directive.sub('', line).split())
        elif line.strip() and not line.startswith('%%'): break
    return [o for o in res if o]

def is_exported(
    cell:dict # Notebook cell
)->bool: # True if its code goes into the module
    "Whether nbdev exports `cell`"
    return any(o[0] in ('export', 'exports', 'exporti') for o in cell_flags(cell))

def cell_trees(
    cell:dict # Notebook cell
)->list[ast.stmt]: # Top-level statements; [] for anything but code
    "Parsed statements of a code cell, notebook magics left out; `SyntaxError` if it is not Python"
    return ast.parse(_magic.sub('', cell_source(cell))).body if cell['cell_type'] == 'code' else []

_export = 'nbdev_export' + '()' # in two parts, because nbdev never runs a cell that holds the words in one
_last = f'#| hide\nimport nbdev; nbdev.{_export}'

def _check_ids(nb):
    ids = [c.get('id') for c in nb['cells']]
    bad = [f'cell {i} has no usable id: {o!r}' for i, o in enumerate(ids) if not re.fullmatch(r'[\w-]{1,64}', o or '')]
    return bad + [f'the id {o!r} is used twice' for o in sorted({o for o in ids if o and ids.count(o) > 1})]

def _check_title(nb):
    lines = [o for o in cell_source(nb['cells'][0]).splitlines() if o.strip()] if nb['cells'] else []
    if len(lines) != 2 or not lines[0].startswith('# ') or not lines[1].startswith('> '):
        return ['the first cell is not a title line and a `> sentence`, and nothing else']
    later = [cell_source(c) for c in nb['cells'][1:] if c['cell_type'] == 'markdown']
    return ['a later markdown cell starts with `# `' for o in later if o.startswith('# ')]

def check_page(
    stem:str, # Path below nbs/ without `.ipynb`
    nb:dict # Notebook
)->list[str]: # One sentence per problem
    "Title, cell ids, last cell, and that the module has the path of the notebook"
    flags, module, folder = [f for c in nb['cells'] for f in cell_flags(c)], module_of(stem), stem.rpartition('/')[0]
    exp, res = [f[1:] for f in flags if f[0] == 'default_exp'], _check_ids(nb) + _check_title(nb)
    if not module and stem != 'index': res.append('the name is not two digits, an underscore and a lower-case name')
    if exp and exp != [[module]]: res.append(f'default_exp {exp} is not the path of the notebook')
    if any(map(is_exported, nb['cells'])) and not exp: res.append('it exports without a default_exp')
    if not exp and folder in WINGS: res.append('a page of a wing exports a module')
    if exp and folder in PAGES: res.append(f'pages in {folder}/ export nothing')
    if folder and folder not in (*WINGS, *PAGES): res.append(f'{folder}/ is no wing')
    if not nb['cells'] or cell_source(nb['cells'][-1]).strip() != _last or nb['cells'][-1].get('outputs'):
        res.append(f'the last cell is not {_last!r} without output')
    return [f'{stem}: {o}' for o in res]

# Reasons for which a cell does not run everywhere, as in pyproject.toml
TEST_FLAGS = ('slow', 'cuda', 'weights', 'data', 'long', 'rivals')
_bare = TEST_FLAGS + ('export', 'exports', 'exporti', 'hide')
_args = ('default_exp', 'filter_stream')

def _tokens(src):
    "Python tokens of a cell, notebook magics left out"
    return list(tokenize.generate_tokens(io.StringIO(_magic.sub('', src)).readline))

def _late_flags(src):
    "Comment lines that look like directives but follow code, where nbdev does not look"
    toks, blank = _tokens(src), (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER)
    code = next((i for i, t in enumerate(toks) if t.type not in blank), len(toks))
    late = [t.string for t in toks[code:] if t.type == tokenize.COMMENT and _directive.match(t.string)]
    return [o for o in late if 'hide_line' not in o]

def _flag_problem(words, exported):
    "What is wrong with one directive line, or None"
    first, line = words[0], ' '.join(words)
    if first.startswith('eval') or 'skip_exec' in line: return f'`{line}` would never run: flag the reason instead'
    if first in TEST_FLAGS and exported: return f'the flag `{first}` on an exported cell skips its definition'
    if first in _bare: return f'`{line}`: nbdev reads the first word only, one flag a line' if len(words) > 1 else None
    if first in _args or re.match(r'[\w-]+:', line): return None
    return f'`{line}` is no directive that nbdev knows'

def check_flags(
    stem:str, # Path below nbs/ without `.ipynb`
    nb:dict # Notebook
)->list[str]: # One sentence per problem
    "Directives that nbdev would not read, or that would skip what must run"
    res = []
    for c in nb['cells']:
        bad, src = [_flag_problem(f, is_exported(c)) for f in cell_flags(c)], cell_source(c)
        if c['cell_type'] == 'code': bad += [f'`{o}` stands below code, where it is not read' for o in _late_flags(src)]
        elif 'skip_exec:' in src: bad.append('skip_exec is not used here')
        res += [f"{stem} #{c.get('id')}: {o}" for o in bad if o]
    return res

_noise = {'a progress bar': re.compile(r'<progress|[█▏▎▍]|\d(?:it/s|s/it)\b|\d%\|'),
          'an elapsed time': re.compile(r'<td>\d\d:\d\d</td>|^\s*CPU times|Wall time', re.M),
          'a path of a machine': re.compile(r'(?<![\w/.])/(?:home|root|tmp|work|usr|Users|var|opt|mnt)/\w|'
                                            r'\b[A-Z]:\\\\?\w|site-packages'),
          'a warning': re.compile(r'\b\w*Warning\b: ')}

def _output_text(out):
    "Text that an output shows, without pictures"
    data = {k: v for k, v in out.get('data', {}).items() if k.startswith('text/')}
    return '\n'.join(''.join(o) for o in [out.get('text', ''), *data.values()])

def _pictures(out):
    "KB of each picture in an output"
    pics = {k: ''.join(v) for k, v in out.get('data', {}).items() if k.startswith('image/')}
    return [len(v) * (1 if 'svg' in k else 3/4) / 1024 for k, v in pics.items()]

def check_outputs(
    stem:str, # Path below nbs/ without `.ipynb`
    nb:dict, # Notebook
    max_kb:int=300, # Largest notebook, KB
    max_image:int=60 # Largest picture, KB
)->list[str]: # One sentence per problem
    "Errors, warnings, machine paths, progress bars and oversize in what is saved"
    size = len(json.dumps(nb, indent=1, ensure_ascii=False).encode()) / 1024
    res = [f'{stem}: {size:.0f} KB, more than {max_kb}'] if size > max_kb else []
    for c in nb['cells']:
        bad = []
        for o in c.get('outputs', []):
            if o['output_type'] == 'error': bad.append(f"an error is saved: {o.get('ename')}")
            if o.get('name') == 'stderr': bad.append('output on stderr is saved')
            bad += [f'{what} is saved' for what, pat in _noise.items() if pat.search(_output_text(o))]
            bad += [f'a picture of {b:.0f} KB, more than {max_image}' for b in _pictures(o) if b > max_image]
        res += [f"{stem} #{c.get('id')}: {o}" for o in bad]
    return res

_imports = (ast.Import, ast.ImportFrom)

def _decorators(node):
    "Names of the decorators of a function or class"
    return [ast.unparse(d).split('(')[0] for d in getattr(node, 'decorator_list', [])]

def _mixed_imports(cell, trees):
    "True if docs would run other code of `cell` because something in it is imported"
    top = [isinstance(t, _imports) for t in trees]
    inner = any(isinstance(n, _imports) for t in trees for n in ast.walk(t))
    if _export in cell_source(cell): return False
    return any(top) and not all(top) if is_exported(cell) else inner and not all(top)

def check_code(
    stem:str, # Path below nbs/ without `.ipynb`
    nb:dict # Notebook
)->list[str]: # One sentence per problem
    "Imports in cells of their own, since the site runs every cell that imports"
    return [f"{stem} #{c.get('id')}: imports share the cell with other code" for c in nb['cells'] if _mixed_imports(c, cell_trees(c))]

_defs = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

def _patched(node):
    "`Class` if `node` is a method that `@patch` adds to it"
    if isinstance(node, ast.ClassDef) or 'patch' not in _decorators(node): return ''
    return ast.unparse(node.args.args[0].annotation)

def _bare_arguments(fn, lines):
    "Names of arguments of `fn` without a comment on their line"
    a = fn.args
    args = [o for o in a.posonlyargs + a.args + a.kwonlyargs if o.arg not in ('self', 'cls')]
    return [o.arg for o in args if '#' not in lines[o.end_lineno - 1]]

def _doc_problems(node, lines):
    "What the documentation of one public definition lacks"
    name = f'{_patched(node)}.{node.name}'.strip('.')
    res = [] if ast.get_docstring(node) else [f'`{name}` has no docstring']
    init = [o for o in node.body if getattr(o, 'name', '') == '__init__']
    for fn in init if isinstance(node, ast.ClassDef) else [node]:
        res += [f'`{name}` says nothing of its argument `{o}`' for o in _bare_arguments(fn, lines)]
    return res

def check_docs(
    stem:str, # Path below nbs/ without `.ipynb`
    nb:dict # Notebook
)->list[str]: # One sentence per problem
    "A docstring on every public name and a comment on every argument"
    res = []
    for c in filter(is_exported, nb['cells']):
        lines = _magic.sub('', cell_source(c)).splitlines()
        public = [t for t in cell_trees(c) if isinstance(t, _defs) and not t.name.startswith('_')]
        res += [f"{stem} #{c.get('id')}: {o}" for t in public for o in _doc_problems(t, lines)]
    return res

def _bound(node):
    "Names that a top-level statement binds; `Class.method` for a patch"
    if isinstance(node, _defs): return [f'{_patched(node)}.{node.name}'.strip('.')]
    targets = getattr(node, 'targets', [node.target] if isinstance(node, ast.AnnAssign) else [])
    return [n.id for o in targets for n in ast.walk(o) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]

def public_names(
    nb:dict # Notebook
)->list[tuple[str, int]]: # Name (`Class.method` for patches) and index of the cell that exports it
    "What the notebook exports, in order"
    res = []
    for i, c in enumerate(nb['cells']):
        if not is_exported(c) or any(f[0] == 'exporti' for f in cell_flags(c)): continue
        for t in cell_trees(c):
            res += [(n, i) for n in _bound(t) if not n.split('.')[-1].startswith('_')]
    return res

_tests = 'test ExceptionExpected'.split() + [f'test_{o}' for o in
    'eq eq_type ne is close shuffled stdout warns fail fig_exists'.split()]

def _asserts(node):
    "Whether a node is an assertion: `assert`, one of fastcore's tests, or an `assert_...` of numpy, torch or pandas"
    called = getattr(node.func, 'id', getattr(node.func, 'attr', '')) if isinstance(node, ast.Call) else ''
    return isinstance(node, ast.Assert) or called in _tests or called.startswith('assert_')

def _names_if_test(cell):
    "Names used in `cell` if it asserts something and always runs, else None"
    if is_exported(cell) or any(f[0] in TEST_FLAGS for f in cell_flags(cell)): return None
    walk = [n for t in cell_trees(cell) for n in ast.walk(t)]
    return {getattr(n, a, None) for n in walk for a in ('id', 'attr')} if any(map(_asserts, walk)) else None

def check_tested(
    stem:str, # Path below nbs/ without `.ipynb`
    nb:dict, # Notebook
    within:int=3 # How many of the following test cells are searched
)->list[str]: # One sentence per problem
    "Every exported name occurs in one of the next `within` cells that assert something"
    used, res = [_names_if_test(c) for c in nb['cells']], []
    for name, i in public_names(nb):
        near = [u for u in used[i + 1:] if u is not None][:within]
        if any(name.split('.')[-1] in u for u in near): continue
        res.append(f'{stem}: `{name}` is exported but not asserted in the next {within} test cells')
    return res

_functions = (ast.FunctionDef, ast.AsyncFunctionDef)

def _told(cls):
    "What the `_docs` of fastai's `@docs` say: method -> sentence"
    sets = [o.value for o in cls.body if isinstance(o, ast.Assign) and getattr(o.targets[0], 'id', '') == '_docs']
    return {k.arg: ast.literal_eval(k.value) for o in sets for k in o.keywords}

def _members(tree):
    "Name, function and docstring of a definition and of what it makes public"
    name, doc, res = f'{_patched(tree)}.{tree.name}'.strip('.'), ast.get_docstring(tree) or '', []
    if isinstance(tree, _functions): return [(name, tree, doc)]
    for o in tree.body:
        if not isinstance(o, _functions) or any(d.endswith('.setter') for d in _decorators(o)): continue
        own = ast.get_docstring(o) or _told(tree).get(o.name, '')
        if o.name in ('__init__', '__post_init__'): res.append((name, o, doc))
        elif not o.name.startswith('_'): res.append((f'{name}.{o.name}', o, own))
    return res

def _comment(node, lines):
    "Comment on the line on which `node` ends"
    return lines[node.end_lineno - 1].partition('#')[2].strip()

_arrays = {'Tensor', 'TensorImage', 'ndarray'}
_shape = re.compile(r'\([^()]*\)|\bscalar\b|\bshapes?\b', re.I)
_unit = re.compile(r'[<>]|\bin [\[(]|\d-\.?\d|\d, \.?\d|\((?:\.|[A-Z],)|'
                   r'\b(?:cycles/pixel|radians|pixels?|seconds|minutes|[KM]B|epochs?|nats|units?)\b|'
                   r'\b(?:share|weight|factor|ratio|rate|scalar)\b', re.I)

def _quantity_problems(name, what, ann, comment):
    "What the comment on one argument, field or result leaves open"
    if ann is None or not comment: return []
    words = {getattr(n, 'id', getattr(n, 'attr', '')) for n in ast.walk(ann)}
    kind, told = '', True
    if words & _arrays: kind, told = 'shape', _shape.search(comment)
    elif 'float' in words: kind, told = 'unit or range', _unit.search(f'{what} {comment}')
    elif 'int' in words and what == '`size`': kind, told = 'unit', re.search(r'pixel|\(h', comment, re.I)
    return [] if told else [f'`{name}` gives no {kind} of {what}']

def _argument_problems(name, fn, lines, method):
    "Arguments of a function that nobody has described, or not enough"
    a, typed = fn.args, fn.name in ('encodes', 'decodes', 'setups')
    args = [*a.posonlyargs, *a.args, *filter(None, (a.vararg, a.kwarg)), *a.kwonlyargs]
    args = [o for o in args if o.arg not in ('self', 'cls')]
    bare = [o for o in args if not _comment(o, lines) and not typed and (method or o in (a.vararg, a.kwarg))]
    res = [f'`{name}` says nothing of its argument `{o.arg}`' for o in bare]
    for o in args: res += _quantity_problems(name, f'`{o.arg}`', o.annotation, _comment(o, lines))
    return res

def _returns(fn):
    "Whether a function hands a value back, or yields one"
    inner = {id(n) for o in ast.walk(fn) if isinstance(o, (*_defs, ast.Lambda)) and o is not fn for n in ast.walk(o)}
    outs = [n.value for n in ast.walk(fn) if isinstance(n, (ast.Return, ast.Yield)) and id(n) not in inner]
    return any(o is not None and not (isinstance(o, ast.Constant) and o.value is None) for o in outs)

def _result_problems(name, fn, lines, method):
    "What is not said of what a function returns; a method without arguments may say it in its docstring"
    a, header = fn.args, lines[fn.lineno - 1:fn.body[0].lineno - 1]
    if fn.name.startswith('__') or fn.name in ('encodes', 'decodes', 'setups'): return []
    bare = [o for o in header if re.search(r'\)\s*:\s*#\s*\S', o)] # a comment behind `):`
    said = bare if fn.returns is None else _comment(fn.returns, lines)
    if not said and method and not (a.args[1:] or a.kwonlyargs or a.vararg or a.kwarg): return []
    if fn.returns is None: return [f'`{name}` does not say what it returns'] if _returns(fn) and not said else []
    if not said and ast.unparse(fn.returns) != 'None': return [f'`{name}` says nothing of its result']
    return _quantity_problems(name, 'its result', fn.returns, said)

def _field_problems(cls, lines):
    "Public fields of a dataclass that nobody has described, or not enough"
    fields = [o for o in cls.body if isinstance(o, ast.AnnAssign) and not o.target.id.startswith('_')]
    bare = [o.target.id for o in fields if not _comment(o, lines)]
    res = [f'`{cls.name}` says nothing of its field `{o}`' for o in bare]
    for o in fields: res += _quantity_problems(cls.name, f'`{o.target.id}`', o.annotation, _comment(o, lines))
    return res

def _said_of(tree, lines):
    "What the documentation of one public definition leaves open"
    first = (ast.get_docstring(tree) or '').split('\n\n')[0]
    long = re.search(r'[.!?] [A-Z]|\n', first)
    res = [f'the docstring of `{tree.name}` does not begin with one sentence'] if long else []
    if isinstance(tree, ast.ClassDef): res += _field_problems(tree, lines)
    for name, fn, doc in _members(tree):
        method = isinstance(tree, ast.ClassDef) and fn.name != '__init__'
        if method and not doc: res.append(f'`{name}` has no docstring')
        res += _argument_problems(name, fn, lines, method) + _result_problems(name, fn, lines, method)
    return res

def _constant_problems(tree, lines):
    "Public constants without a comment on one of their lines or just above"
    above = lines[tree.lineno - 2:tree.lineno - 1] if tree.lineno > 1 else []
    said = [o for o in [*above, *lines[tree.lineno - 1:tree.end_lineno]] if '# ' in o]
    said = [o for o in said if not _directive.match(o) and (o.lstrip().startswith('#') or o not in above)]
    return [] if said else [f'the constant `{o}` has no comment' for o in _bound(tree) if not o.startswith('_')]

def check_docstrings(
    stem:str, # Path below nbs/ without `.ipynb`
    nb:dict # Notebook
)->list[str]: # One sentence per problem
    "Shapes, units and results that the documentation of public definitions leaves open"
    res = []
    for c in filter(is_exported, nb['cells']):
        lines, bad = _magic.sub('', cell_source(c)).splitlines(), []
        for t in cell_trees(c):
            if isinstance(t, _defs): bad += [] if t.name.startswith('_') else _said_of(t, lines)
            elif isinstance(t, (ast.Assign, ast.AnnAssign)): bad += _constant_problems(t, lines)
        res += [f"{stem} #{c.get('id')}: {o}" for o in bad]
    return res

_choice = re.compile(r'^::: \{\.callout-note.*?\}\n## Choice\n(.*?)^:::', re.M | re.S)
_whole_page = re.compile(r"^\W*Ours\b[^:]|\b(?:[Aa]ll|Everything|None|Nothing)\b[^.:]*\b(?:ours|paper's)\b", re.M)
_whose = re.compile(r"\bours?\b|\bthe paper's\b|et al\.|\b(?:19|20)\d\d\)|"
                    r'\b(?:public|authors|fastai|fastcore|timm|torch|scikit-learn|onnxruntime)\b')

def check_sources(
    stem:str, # Path below nbs/ without `.ipynb`
    nb:dict # Notebook
)->list[str]: # One sentence per problem
    "A `Choice` callout on each page that exports, and a source for every public function and class"
    if not public_names(nb): return []
    said = [o for c in nb['cells'] if c['cell_type'] == 'markdown' for o in _choice.findall(cell_source(c))]
    if not said: return [f'{stem}: no callout `Choice` says what is the paper\'s and what is ours']
    if any(_whole_page.search(o) for o in said): return []
    defs = [t for c in nb['cells'] if is_exported(c) for t in cell_trees(c) if isinstance(t, _defs) and not _patched(t)]
    open_ = [t.name for t in defs if not t.name.startswith('_') and not _whose.search(ast.get_docstring(t) or '')]
    return [f'{stem}: nobody says whose `{o}` is' for o in open_ if not any(f'`{o}`' in s for s in said)]

def _misuse(node):
    "Whether a node expects to fail"
    calls = [o.context_expr for o in node.items] if isinstance(node, ast.With) else [node]
    names = [getattr(o.func, 'id', getattr(o.func, 'attr', '')) for o in calls if isinstance(o, ast.Call)]
    return bool({'ExceptionExpected', 'test_fail'} & set(names))

def _uses(node):
    "Names that are read in `node`, but for what expects to fail"
    if _misuse(node): return set()
    read = isinstance(getattr(node, 'ctx', None), ast.Load)
    own = {getattr(node, 'id', getattr(node, 'attr', ''))} if read else set()
    return own.union(*map(_uses, ast.iter_child_nodes(node)))

def check_shown(
    stem:str, # Path below nbs/ without `.ipynb`
    nb:dict # Notebook
)->list[str]: # One sentence per problem
    "Every exported name is used, with success, in a cell below it that readers see and that always runs"
    unseen = (*TEST_FLAGS, 'hide', 'hide_input', 'echo:', 'include:', 'export', 'exports', 'exporti')
    seen = [not any(f[0] in unseen for f in cell_flags(c)) for c in nb['cells']]
    used, res = [set().union(*map(_uses, cell_trees(c))) if o else set() for c, o in zip(nb['cells'], seen)], []
    for name, i in public_names(nb):
        want = name.split('.')[-1]
        if not any(want in u for u in used[i + 1:]): res.append(f'{stem}: no visible cell shows `{name}` at work')
    return res

def check_listed(
    nbs:dict[str, dict], # Path -> notebook
    page:str='reference/01_names' # Notebook that lists the names
)->list[str]: # One sentence per problem
    "The saved list of public names has each of them, and no other"
    outs = [o for c in nbs[page]['cells'] for o in c.get('outputs', [])] if page in nbs else []
    text, folder = '\n'.join(map(_output_text, outs)), posixpath.dirname(page)
    found = re.findall(r'\[(?:`|<code>)([\w.]+)(?:`|</code>)\]\(([\w./]+)\.ipynb', text)
    there = {(n, posixpath.normpath(posixpath.join(folder, s))) for n, s in found}
    want = {(n, s) for s, nb in nbs.items() for n, _ in public_names(nb)}
    return [f'{page}: `{n}` of {s} is {"not listed" if (n, s) in want else "listed, but gone"}: run the page again'
            for n, s in sorted(want ^ there)]

def own_imports(
    nb:dict, # Notebook
    modules:set[str]|None=None, # Modules of the package (`data.longtail`), to tell `from foprokd.data import longtail` from a name
    lib:str='foprokd' # Package name
)->dict[str, list[str]]: # Module -> names taken from it; [] for a plain import
    "Modules of our own that the exported cells import"
    nodes, res = [n for c in nb['cells'] if is_exported(c) for t in cell_trees(c) for n in ast.walk(t)], {}
    for n in nodes:
        if isinstance(n, ast.Import): found = [(a.name, []) for a in n.names]
        elif isinstance(n, ast.ImportFrom) and n.module and not n.level:
            inner = [a.name for a in n.names if f'{n.module}.{a.name}'.removeprefix(f'{lib}.') in (modules or ())]
            found = [(f'{n.module}.{o}', []) for o in inner]
            if len(inner) < len(n.names): found.append((n.module, [a.name for a in n.names if a.name not in inner]))
        else: continue
        for mod, names in found:
            if mod == lib and not names: continue # the package itself, for its version and folder, is no module
            if mod.split('.')[0] == lib: res.setdefault(mod.removeprefix(lib).lstrip('.'), []).extend(names)
    return res

def check_order(
    nbs:dict[str, dict] # Path -> notebook
)->list[str]: # One sentence per problem
    "A page imports from lower numbers of its own folder, from modules that exist, and no private name; what it may take from other folders is import-linter's"
    made = {module_of(s): s for s, nb in nbs.items() if any(map(is_exported, nb['cells']))}
    wing, number, res = (lambda s: s.rpartition('/')[0]), (lambda s: s.rpartition('/')[2].split('_')[0]), []
    for stem in made.values():
        for mod, names in sorted(own_imports(nbs[stem], set(made)).items()):
            other = made.get(mod)
            if other is None: res.append(f'{stem}: imports `{mod}`, which no notebook makes')
            elif wing(other) == wing(stem) and number(other) >= number(stem):
                res.append(f'{stem}: imports `{mod}`, which is not below it')
            res += [f'{stem}: takes the private name `{n}` from `{mod}`' for n in names if n.startswith('_')]
    count = [(wing(s), number(s)) for s in nbs if module_of(s)]
    return res + [f'{w}/{n}: two pages have this number'.lstrip('/') for w, n in sorted(set(count)) if count.count((w, n)) > 1]

_made = '<!-- Made from nbs/index.ipynb by `make export`: edit that notebook, not this file. -->'

def _fence(text, lang=''):
    "Fenced block of `text`"
    return f'```{lang}\n{text.strip()}\n```' if text.strip() else ''

_both = re.compile(r'<img class="light-content" src="(.*?)" alt="(.*?)"( width=".*?")?>\n<img class="dark-content" src="(.*?)" .*?>')
_picture = (r'<picture>\n<source media="(prefers-color-scheme: dark)" srcset="\4">\n<img src="\1"\3 alt="\2">\n</picture>')

def _readme_cell(cell):
    "Markdown of one cell, '' if it is hidden"
    if cell['cell_type'] == 'markdown':
        text = _both.sub(_picture, cell_source(cell))
        return re.sub(r'(\]\(|src="|srcset=")(\w[\w/]*\.ipynb|images/)', r'\1nbs/\2', text).strip()
    if cell['cell_type'] != 'code' or any(f[0] in ('hide', 'default_exp') for f in cell_flags(cell)): return ''
    code = '\n'.join(o for o in cell_source(cell).splitlines() if not _directive.match(o))
    said = [o for o in cell['outputs'] if not any(k.startswith('image/') for k in o.get('data', {}))]
    outs = [''.join(o.get('text', o.get('data', {}).get('text/plain', ''))) for o in said]
    return '\n\n'.join(filter(None, [_fence(code, 'python'), *map(_fence, outs)]))

def readme_text(
    nb:dict # The front page, `index.ipynb`
)->str: # Markdown
    "The README that belongs to the front page"
    return '\n\n'.join(filter(None, [_made, *map(_readme_cell, nb['cells'])])) + '\n'

def _settings(root):
    "What settings.ini says"
    cfg = ConfigParser(delimiters=['='])
    cfg.read(Path(root)/'settings.ini', encoding='utf-8')
    return cfg['DEFAULT']

def write_readme(
    root:str|Path='.' # Folder of the repository
)->None:
    "Write README.md from nbs/index.ipynb"
    front = json.loads((Path(root)/'nbs'/'index.ipynb').read_text(encoding='utf-8'))
    (Path(root)/'README.md').write_text(readme_text(front), encoding='utf-8')

def write_version(
    root:str|Path='.' # Folder of the repository
)->None:
    "Write the version of settings.ini into the package, which nbdev 3 does not do"
    init = Path(root)/'foprokd'/'__init__.py'
    text = init.read_text(encoding='utf-8')
    new = re.sub(r'^__version__ = ".*"$', f'__version__ = "{_settings(root)["version"]}"', text, flags=re.M)
    if new != text: init.write_text(new, encoding='utf-8')

def check_readme(
    readme:str, # Text of README.md
    nb:dict, # The front page
    most:int=150 # Lines that a visitor reads
)->list[str]: # One sentence per problem
    "README.md equals what the front page gives, and is short"
    res = [] if readme == readme_text(nb) else ['README.md: not in step with nbs/index.ipynb: run `make export`']
    lines = len(readme.splitlines())
    return res + ([f'README.md: {lines} lines, more than {most}'] if lines > most else [])

def check_linked(
    nbs:dict[str, dict], # Path -> notebook
    page:str='reference/08_pages' # Notebook that lists all others
)->list[str]: # One sentence per problem
    "The list of pages links every notebook"
    text = '\n'.join(cell_source(c) for c in nbs[page]['cells'] if c['cell_type'] == 'markdown') if page in nbs else ''
    folder = posixpath.dirname(page)
    linked = {posixpath.normpath(posixpath.join(folder, o)) for o in re.findall(r'\]\(([\w./]+)\.ipynb', text)}
    res = [f'{page}: does not link {s}' for s in nbs if s not in linked | {page, 'index'}]
    return res + [f'{page}: links {s}, which is not there' for s in sorted(linked - set(nbs))]

def check_modules(
    nbs:dict[str, dict], # Path -> notebook
    modules:list[str] # Modules of the package whose names do not start with `_`: `data.longtail`
)->list[str]: # One sentence per problem
    "Every exporting notebook has its module and every module its notebook"
    made = {module_of(s) for s, nb in nbs.items() if any(map(is_exported, nb['cells']))}
    res = [f'{o}: exported by no notebook' for o in sorted(set(modules) - made - {'all'})] # `all` only gathers names
    return res + [f'{o}: not exported yet' for o in sorted(made - set(modules))]

def check_length(
    lines:dict[str, int], # Module -> lines of its file
    most:int=400 # A file that is longer holds more than one idea
)->list[str]: # One sentence per problem
    "No module is long; generated ones, whose names start with `_`, are not asked"
    return [f'{n}: {k} lines, more than {most}: part its notebook' for n, k in lines.items() if k > most]

def check_weights(
    weights:dict[str, int], # File name -> bytes, of the safetensors in the package
    cards:str, # Text of all model cards
    max_mb:float=2. # Largest file, MB
)->list[str]: # One sentence per problem
    "The package ships weights, each small and each with a model card"
    res = [] if weights else ['foprokd/weights: no safetensors file']
    res += [f'{n}: {b/2**20:.1f} MB, more than {max_mb:g}' for n, b in weights.items() if b > max_mb * 2**20]
    return res + [f'{n}: no card in data_cards/ names it' for n in weights if n not in cards]

def modules(
    root:str|Path='.' # Folder of the repository
)->list[str]: # `data.longtail`, in order
    "Modules of the package, but those whose names start with `_`"
    lib = Path(root)/'foprokd'
    return sorted('.'.join(p.relative_to(lib).with_suffix('').parts) for p in lib.rglob('[!_]*.py'))

def _around(root, nbs):
    "Problems of the files around the notebooks"
    weights = {p.name: p.stat().st_size for p in (root/'foprokd'/'weights').glob('*.safetensors')}
    cards = '\n'.join(p.read_text(encoding='utf-8') for p in sorted((root/'data_cards').glob('*.md')))
    have = modules(root)
    lines = {n: len((root/'foprokd'/f"{n.replace('.', '/')}.py").read_text(encoding='utf-8').splitlines()) for n in have}
    res = check_modules(nbs, have) + check_length(lines) + check_weights(weights, cards)
    if 'index' in nbs: res += check_readme((root/'README.md').read_text(encoding='utf-8'), nbs['index'])
    else: res.append('nbs/index.ipynb: missing')
    nbdev = tomllib.loads((root/'pyproject.toml').read_text(encoding='utf-8'))['tool']['nbdev']
    if set(nbdev['tst_flags'].split()) != set(TEST_FLAGS): res.append(f"pyproject.toml: tst_flags {nbdev['tst_flags']} are not {TEST_FLAGS}")
    return res + [f'{p.name}: hides a folder from the tests' for p in (root/'nbs').rglob('.notest')]

def check_readable(
    nbs:dict[str, dict] # Path -> notebook
)->list[str]: # One sentence per problem
    "What makes a page hard to read and is on no page (counted by tools/pages.py)"
    from pages import NEVER, places
    public = {n.split('.')[-1] for nb in nbs.values() for n, _ in public_names(nb)}
    return [f'{stem} #{o}: {what}' for stem, nb in nbs.items() for what, found in places(nb, public).items() if what in NEVER for o in found]

PER_PAGE = (check_page, check_flags, check_outputs, check_code, check_docs, check_tested, check_docstrings, check_sources, check_shown)

def house_problems(
    root:str|Path='.' # Folder of the repository
)->list[str]: # One sentence per problem, empty when the house is in order
    "Every check of this file on every notebook of `root`"
    root = Path(root)
    nbs = read_notebooks(root/'nbs')
    res = [o for stem, nb in nbs.items() for f in PER_PAGE for o in f(stem, nb)]
    return res + check_order(nbs) + check_listed(nbs) + check_linked(nbs) + check_readable(nbs) + _around(root, nbs)


if __name__ == '__main__':
    root = Path(__file__).resolve().parents[1]
    if sys.argv[1:] == ['readme']:
        write_readme(root)
        write_version(root)
    else:
        problems = house_problems(root)
        print(*problems, sep='\n')
        sys.exit(bool(problems))
