"""What is done to the package on its way to PyPI: type stubs and a README whose links work elsewhere (by setup.py), and the check of a tag:

    python release.py v0.1.0

fastcore's `@patch` adds a method to a class where a type checker does not look. For each module that uses it the wheel gets a stub,
in which these methods stand in their class. The other modules are read as they are (py.typed)."""
import ast
import re
import sys
from configparser import ConfigParser
from pathlib import Path


def _name(text):
    "A name as a node"
    return ast.Name(text, ast.Load())


def _is_patch(node):
    "Whether `node` is a function under `@patch` or `@patch(...)`"
    return isinstance(node, ast.FunctionDef) and any(ast.unparse(d).split('(')[0] == 'patch' for d in node.decorator_list)


def _method(node):
    "Class name of a patch, and the method as it would stand there"
    [decorator] = [d for d in node.decorator_list if ast.unparse(d).split('(')[0] == 'patch']
    words = {k.arg for k in getattr(decorator, 'keywords', [])}
    first = node.args.args[0]
    owner, first.annotation = ast.unparse(first.annotation), None
    kinds = [n for w, n in (('as_prop', 'property'), ('cls_method', 'classmethod')) if w in words]
    node.decorator_list = [_name(n) for n in kinds] + [d for d in node.decorator_list if d is not decorator]
    return owner, node


def _bound(fn):
    "Names that a function assigns to"
    return {n.id for n in ast.walk(fn) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _attributes(cls):
    "Attribute -> annotation, of what the methods of a class set on `self`: that of an argument kept as it came, or Any"
    res = {}
    for fn in (o for o in cls.body if isinstance(o, ast.FunctionDef)):
        args = fn.args.posonlyargs + fn.args.args + fn.args.kwonlyargs
        notes = {a.arg: a.annotation for a in args if a.annotation and a.arg not in _bound(fn)}
        for n in ast.walk(fn):
            if isinstance(n, ast.Assign) and len(n.targets) == 1 and isinstance(n.targets[0], ast.Tuple):
                many = isinstance(n.value, ast.Tuple) and len(n.value.elts) == len(n.targets[0].elts)
                pairs = list(zip(n.targets[0].elts, n.value.elts if many else [None] * len(n.targets[0].elts)))
            elif isinstance(n, ast.Assign): pairs = [(t, n.value) for t in n.targets]
            else: continue
            for t, v in pairs:
                if not (isinstance(t, ast.Attribute) and ast.unparse(t.value) == 'self'): continue
                note = notes.get(v.id) if isinstance(v, ast.Name) else None
                again = t.attr in res and (note is None or ast.unparse(note) != ast.unparse(res[t.attr]))
                res[t.attr] = _name('Any') if note is None or again else note
    return res


def _empty(fn):
    "A function without its body, but for the docstring"
    doc = ast.get_docstring(fn, clean=False)
    fn.body = [ast.Expr(ast.Constant(o)) for o in ((doc, ...) if doc else (...,))]


def _shell(cls):
    "A class with the attributes its methods set, and methods without bodies"
    have = {n.id for o in cls.body for n in ast.walk(o) if not isinstance(o, ast.FunctionDef)
            and isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)} | {getattr(o, 'name', '') for o in cls.body}
    new = [ast.AnnAssign(_name(k), v, None, 1) for k, v in _attributes(cls).items() if k not in have]
    for o in cls.body:
        if isinstance(o, ast.FunctionDef): _empty(o)
    at = 1 if ast.get_docstring(cls) is not None else 0
    cls.body[at:at] = new


def _constant(node):
    "A top-level assignment, as `name: Any` where its value is no literal"
    try: ast.literal_eval(node.value)
    except ValueError:
        return [ast.AnnAssign(_name(n.id), _name('Any'), None, 1) for t in node.targets for n in ast.walk(t)
                if isinstance(n, ast.Name)]
    return [node]


def stub(
    source:str # Of a module
)->str|None: # Its stub; None if it patches nothing
    "Stub of a module in which every patch stands in its class; `ValueError` for a class that the module does not define"
    tree = ast.parse(source)
    if not any(map(_is_patch, tree.body)): return None
    classes = {o.name: o for o in tree.body if isinstance(o, ast.ClassDef)}
    body = []
    for o in tree.body:
        if _is_patch(o):
            owner, fn = _method(o)
            if owner not in classes: raise ValueError(f"{fn.name} is patched into {owner}, which the module does not define.")
            cls = classes[owner]
            cls.body = [m for m in cls.body if getattr(m, 'name', '') != fn.name] + [fn]
        else: body += _constant(o) if isinstance(o, ast.Assign) else [o]
    for o in body:
        if isinstance(o, ast.ClassDef): _shell(o)
        elif isinstance(o, ast.FunctionDef): _empty(o)
    at = 1 if ast.get_docstring(tree) is not None else 0
    body.insert(at, ast.ImportFrom('typing', [ast.alias('Any')], 0))
    return ast.unparse(ast.fix_missing_locations(ast.Module(body, []))) + '\n'


_RELATIVE = r'(?![a-z][a-z0-9+.-]*:|//|#)(?:\./)?'


def absolute_links(
    text:str, # Markdown
    git:str, # Address of the repository on GitHub
    ref:str # Tag, branch or commit
)->str: # The same, readable anywhere
    "Links and pictures that are relative to the repository lead to it at `ref`; code blocks stay as they are"
    raw = git.replace('https://github.com/', 'https://raw.githubusercontent.com/')
    page, file = rf'\g<1>{git}/blob/{ref}/', rf'\g<1>{raw}/{ref}/'
    parts = re.split(r'(^```.*?^```[^\n]*$)', text, flags=re.M | re.S)
    for i, s in enumerate(parts):
        if s.startswith('```'): continue
        s = re.sub(r'(!\[[^\]]*\]\()' + _RELATIVE, file, s, flags=re.I)
        s = re.sub(r'''(\b(?:src|srcset)=["'])''' + _RELATIVE, file, s, flags=re.I)
        s = re.sub(r'''(\bhref=["'])''' + _RELATIVE, page, s, flags=re.I)
        parts[i] = re.sub(r'(\]\()' + _RELATIVE, page, s, flags=re.I)
    return ''.join(parts)


def release_problems(
    root:str|Path, # Folder of the repository
    tag:str # e.g. `v0.1.0`
)->list[str]: # One sentence per problem
    "What keeps `tag` from being released: the version has to be that of settings.ini, the module, the citation and the changelog"
    root, cfg = Path(root), ConfigParser(delimiters=['='])
    cfg.read(root/'settings.ini', encoding='utf-8')
    version = cfg['DEFAULT']['version']
    read = lambda name: (root/name).read_text(encoding='utf-8')
    res = [] if tag == f'v{version}' else [f'The tag {tag} is not v{version}, the version of settings.ini.']
    if f'__version__ = "{version}"' not in read('foprokd/__init__.py'): res.append('foprokd/__init__.py has another version: run `make export`.')
    if f'\nversion: {version}\n' not in read('CITATION.cff'): res.append('CITATION.cff has another version.')
    date = re.search(rf'^## \[{re.escape(version)}\] - (\d{{4}}-\d\d-\d\d)$', read('CHANGELOG.md'), re.M)
    if not date: return res + [f'CHANGELOG.md has no line `## [{version}] - YYYY-MM-DD`.']
    if f'\ndate-released: {date[1]}\n' not in read('CITATION.cff'): res.append(f'CITATION.cff was not released on {date[1]}, the date of CHANGELOG.md.')
    if f'\n[{version}]: ' not in read('CHANGELOG.md'): res.append(f'CHANGELOG.md has no link for {version}.')
    return res


if __name__ == '__main__':
    if len(sys.argv) != 2: sys.exit('usage: python release.py TAG')
    sys.exit('\n'.join(release_problems(Path(__file__).parent, sys.argv[1])) or None)
