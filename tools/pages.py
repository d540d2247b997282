"""Counts what makes a page hard to read, in the notebooks as they were committed.

    python tools/pages.py                     # one line a measure, for the whole house
    python tools/pages.py --each              # and one line a page
    python tools/pages.py deploy/06_predict   # every place on one page: the cell, and what it is
    python tools/pages.py --root DIR          # the same of another checkout, to compare

A cell is shown when the site prints its code: it is no import, and not hidden, exported or folded away. Nothing here fails;
what must not come back is a rule in tools/checks.py, which uses the same measures."""
import argparse
import ast
import base64
import re
import struct
import tokenize
from collections import Counter
from functools import lru_cache
from pathlib import Path

from checks import _bound, _magic, _patched, cell_flags, cell_source, is_exported, public_names, read_notebooks

SITE, FILE = 88, 100 # columns: what the site shows without scrolling, and the most in a file
LONG = 25 # lines of an exported cell
FIGURE = 480 # pixels: a narrower picture is hard to read in a column of 750

_quiet = ('hide', 'hide_input', 'echo:', 'include:', 'export', 'exporti')


@lru_cache(8)
def _parsed(src): return ast.parse(src).body

def cell_trees(cell): return _parsed(_magic.sub('', cell_source(cell))) if cell['cell_type'] == 'code' else []

def _flags(cell): return {o[0] for o in cell_flags(cell)}

def is_shown(
    cell:dict # Notebook cell
)->bool: # True if readers of the site see its code in place
    "Whether the site prints the code of `cell`; imports do not count"
    if cell['cell_type'] != 'code' or _flags(cell) & {*_quiet, 'exports', 'default_exp'}: return False
    trees = cell_trees(cell)
    return bool(trees) and not all(isinstance(o, (ast.Import, ast.ImportFrom)) for o in trees)

def _lines(cell):
    "Lines of code, without directives"
    return [o for o in cell_source(cell).splitlines() if not re.match(r'\s*#\s*\|', o)]

def _crowded(cell):
    "Lines on which two statements begin, or a block stands behind its colon"
    starts = Counter()
    for top in cell_trees(cell):
        for node in ast.walk(top):
            if isinstance(node, ast.stmt): starts[node.lineno] += 1
    return sorted(n for n, times in starts.items() if times > 1)

def _semicolons(cell):
    "Lines on which a semicolon parts two statements"
    found = set()
    for top in cell_trees(cell):
        for node in ast.walk(top):
            for part in ('body', 'orelse', 'finalbody'):
                body = getattr(node, part, None)
                if isinstance(body, list): found |= {b.lineno for a, b in zip(body, body[1:]) if a.end_lineno == b.lineno}
    tops = cell_trees(cell)
    return sorted(found | {b.lineno for a, b in zip(tops, tops[1:]) if a.end_lineno == b.lineno})

def _defined(cell):
    "Names that a cell binds at its top level"
    res = set()
    for node in cell_trees(cell):
        if isinstance(node, (ast.Import, ast.ImportFrom)): continue
        res |= set(_bound(node))
    return res

def _read(cell):
    "Names that a cell reads and did not bind before, and its attributes that start with one underscore"
    nodes = [o for top in cell_trees(cell) for o in ast.walk(top)]
    loops = {n.id for o in nodes if isinstance(o, ast.comprehension) for n in ast.walk(o.target) if isinstance(n, ast.Name)}
    def first(ctx):
        said = [(o.lineno, o.id) for o in nodes if isinstance(o, ast.Name) and isinstance(o.ctx, ctx)]
        return {name: line for line, name in sorted(said, reverse=True)}
    bound = first(ast.Store)
    names = {o for o, line in first(ast.Load).items() if o not in loops and line <= bound.get(o, line)}
    attrs = {o.attr for o in nodes if isinstance(o, ast.Attribute)}
    private = {o for o in names | attrs if re.fullmatch(r'_[a-z]\w*', o)}
    return names, private

def _sizes(out):
    "Width in pixels at which the site shows each picture of an output"
    res = []
    for kind, data in out.get('data', {}).items():
        told = out.get('metadata', {}).get(kind, {}) if kind.startswith('image/') else {}
        if kind == 'image/png': res.append(told.get('width') or struct.unpack('>I', base64.b64decode(''.join(data))[16:20])[0])
        if kind == 'image/jpeg' and told.get('width'): res.append(told['width'])
        if kind == 'image/svg+xml':
            found = re.search(r'<svg[^>]*\bwidth="([\d.]+)(pt|px)?"', ''.join(data))
            if found: res.append(float(found[1]) * (4/3 if found[2] == 'pt' else 1))
    return res

def _docments(cell):
    "Text of each comment behind code, with its line"
    src = '\n'.join('' if re.match(r'\s*[%!]', o) else o for o in cell_source(cell).splitlines())
    toks = tokenize.generate_tokens(iter(src.splitlines(True)).__next__)
    return [(o.start[0], o.string) for o in toks if o.type == tokenize.COMMENT and o.line.lstrip()[0] != '#']

def _linked(text, public):
    "Public names in backticks inside the text of a link"
    return sorted({o for o in re.findall(r'\[[^\]\n]*`([\w.]+)`[^\]\n]*\]\(', text) if o.split('.')[-1] in public})

def _wrapped(cell):
    "Public methods that are added to a class and wrapped by another decorator: nbdev's heading then lacks class and source"
    return [t.name for t in cell_trees(cell) if _patched(t) and t.name[0] != '_' and len(t.decorator_list) > 1]

def _prose(nb):
    text = '\n'.join(re.sub(r'```.*?```', '', cell_source(c), flags=re.S) for c in nb['cells'] if c['cell_type'] == 'markdown')
    return len(re.findall(r"[A-Za-z][\w'-]*", text))

def places(
    nb:dict, # Notebook
    public:set=frozenset() # Public names of the package, which nbdev links wherever they stand in backticks
)->dict[str, list[str]]: # Measure -> one `cell: what` for each place
    "Every place of a page that a measure counts"
    res = {o: [] for o in MEASURES}
    names = Counter(i for n, i in public_names(nb) if '.' not in n)
    hidden, local = {}, set()
    for i, c in enumerate(nb['cells']):
        src, id = cell_source(c), c.get('id')
        def put(what, said): res[what].append(f'{id}: {said}')
        if c['cell_type'] != 'code':
            for o in _linked(src, public): put('public names in backticks inside a link', o)
            for o in re.findall(r'(?:\A|\n\n)(    (?![-*\d|])\S[^\n]*)', re.sub(r'```.*?```', '', src, flags=re.S)):
                if not re.search(r'(?m)^\s*([-*]|\d+\.) ', src): put('indented code without a copy button', o.strip()[:60])
            continue
        lines = _lines(c)
        if is_exported(c):
            for n in lines:
                if len(n) > FILE: put(f'exported lines over {FILE} columns', n.strip()[:60])
            if len([o for o in lines if o.strip()]) > LONG: put(f'exported cells over {LONG} lines', f'{len(lines)} lines')
            for o in _wrapped(c): put('headings of methods without class and source', o)
            if names[i] > 1: put('exported cells with several public names', names[i])
        for n in () if 'nbdev_export' + '()' in src else _semicolons(c): put('lines with a semicolon between statements', cell_source(c).splitlines()[n - 1].strip()[:70])
        if is_exported(c):
            for n, text in _docments(c):
                for o in re.findall(r'`([\w.]+)`', text):
                    if o in public: put('public names in backticks in docments', f'line {n}: {o}')
        if 'exports' in _flags(c) or is_shown(c):
            for n in lines:
                if len(n) > SITE: put(f'shown lines over {SITE} columns', n.strip()[:70])
        if is_shown(c):
            for n in _crowded(c): put('shown lines with several statements', cell_source(c).splitlines()[n - 1].strip()[:70])
            used, private = _read(c)
            for o in sorted(used & set(hidden)): put('names from hidden cells in shown ones', f'{o} of {hidden[o]}')
            local |= _defined(c)
            for o in sorted(private - local): put('private names in shown cells', o)
            if not c.get('outputs'): put('shown lines in cells without output', len([o for o in lines if o.strip()]))
        elif not is_exported(c) and 'hide' in _flags(c):
            hidden |= dict.fromkeys(_defined(c), id)
        for o in c.get('outputs', []):
            for n in _linked(''.join(o.get('data', {}).get('text/markdown', '')), public): put('public names in backticks inside a link', n)
            for w in _sizes(o):
                if w < FIGURE: put(f'figures under {FIGURE} px', f'{w:.0f} px')
    return res

def _count(what, found):
    return sum(int(o.rsplit(': ', 1)[1]) for o in found) if what == 'shown lines in cells without output' else len(found)

MEASURES = (f'shown lines over {SITE} columns', f'exported lines over {FILE} columns', f'exported cells over {LONG} lines',
    'lines with a semicolon between statements', 'shown lines with several statements', 'names from hidden cells in shown ones',
    'private names in shown cells', 'shown lines in cells without output', f'figures under {FIGURE} px',
    'public names in backticks in docments', 'public names in backticks inside a link', 'exported cells with several public names',
    'indented code without a copy button', 'headings of methods without class and source')

# What no page has: a rule of tools/checks.py
NEVER = tuple(o for o in MEASURES if not o.startswith('exported cells over'))

def totals(
    nb:dict # Notebook
)->dict[str, int]: # Lines of code, lines of shown code, exported lines and cells, words, figures, outputs
    "What the counts of a page are parts of"
    code = [c for c in nb['cells'] if c['cell_type'] == 'code']
    filled = lambda c: len([o for o in _lines(c) if o.strip()])
    return dict(lines=sum(map(filled, code)), shown=sum(filled(c) for c in code if is_shown(c)),
        exported=sum(filled(c) for c in code if is_exported(c)), cells=sum(map(is_exported, code)), words=_prose(nb),
        figures=sum(len(_sizes(o)) for c in code for o in c.get('outputs', [])), outputs=sum(bool(c.get('outputs')) for c in code))

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('pages', nargs='*', help='pages below nbs/, without .ipynb: every place is named')
    p.add_argument('--each', action='store_true', help='one line a page')
    p.add_argument('--root', type=Path, default=Path(__file__).resolve().parents[1], help='folder of the checkout')
    args = p.parse_args()
    nbs = read_notebooks(args.root/'nbs')
    public = {n.split('.')[-1] for nb in nbs.values() for n, _ in public_names(nb)}
    found = {stem: places(nb, public) for stem, nb in nbs.items() if stem in args.pages or not args.pages}
    for stem in args.pages:
        for what, where in found[stem].items():
            if where: print(f'{stem}: {what}: {_count(what, where)}', *(f'    {o}' for o in where), sep='\n')
    if args.pages: return
    if args.each:
        print('page', *MEASURES, 'words an exported line', sep='\t')
        for stem, nb in nbs.items():
            t = totals(nb)
            print(stem, *(_count(o, found[stem][o]) for o in MEASURES), f"{t['words'] / t['exported']:.1f}" if t['exported'] else '-', sep='\t')
        return
    sums = Counter()
    for nb in nbs.values(): sums.update(totals(nb))
    print(f"{len(nbs)} pages, {sums['lines']} lines of code, {sums['shown']} of them shown, {sums['exported']} exported in {sums['cells']} cells, "
          f"{sums['figures']} figures")
    for what in MEASURES: print(f'{sum(_count(what, found[o][what]) for o in nbs):6d}  {what}, on {sum(bool(found[o][what]) for o in nbs)} pages')
    print(f"{sum(not totals(nb)['outputs'] for nb in nbs.values()):6d}  pages without any output")
    few = [s for s, nb in nbs.items() if totals(nb)['exported'] and totals(nb)['words'] < 4 * totals(nb)['exported']]
    words = sum(totals(nb)['words'] for nb in nbs.values() if totals(nb)['exported'])
    print(f"{len(few):6d}  exporting pages with under four words of prose a line; {words / sums['exported']:.1f} over all")


if __name__ == '__main__': main()
