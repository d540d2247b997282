"""`nbdev-test` under coverage.py: a line of an exported cell that runs in its notebook counts as that line of the module.

    coverage run tools/nb_coverage.py --n-workers 2 --timing --flags long     # the flags are nbdev-test's
    coverage run -m pytest tests
    coverage combine && coverage report

A page defines its module's functions anew, in the notebook's own namespace, so its tests would leave the module's file untouched. nbdev
writes `# %% PAGE #ID` above each cell that it exports: the cell is compiled here under the name and the line numbers of that place. Nothing
else changes: the same code runs, in the same namespace. A cell whose text is not that of the module is compiled as ever, and not counted."""
import ast
import json
import re
import sys
from functools import cache
from pathlib import Path

from IPython.core.compilerop import CachingCompiler
from nbdev.test import nbdev_test

ROOT = Path(__file__).resolve().parents[1]
MARK = re.compile(r'# %% (\S+\.ipynb) #(\S+)')


def same_code(
    cell:str, # Source of an exported cell
    part:str # What the module has for it
)->bool: # Imports aside, which nbdev makes relative
    "Whether two texts are the same code on the same lines, counted from their ends"
    imports = ast.Import, ast.ImportFrom
    try: ends = [{(o.end_lineno - len(t.splitlines()), ast.dump(o)) for o in ast.parse(t).body if not isinstance(o, imports)} for t in (cell, part)]
    except SyntaxError: return False
    return ends[0] == ends[1] and bool(ends[0])


@cache
def exported_cells(
    root:Path=ROOT # Folder of the repository
)->dict: # Source without outer blanks -> (file of the module, lines that the end of the cell lies below its own)
    "Where each exported cell stands in the package"
    res = {}
    for file in sorted((root/'foprokd').rglob('*.py')):
        lines = file.read_text(encoding='utf-8').splitlines()
        marks = [i for i, o in enumerate(lines) if MARK.fullmatch(o)]
        for i, end in zip(marks, [*marks[1:], len(lines)]):
            page, cid = MARK.fullmatch(lines[i]).groups()
            nb = json.loads((file.parent/page).read_text(encoding='utf-8'))
            cell = next((''.join(c['source']).strip() for c in nb['cells'] if c.get('id') == cid), '')
            part = '\n'.join(lines[i + 1:end]).rstrip()
            if same_code(cell, part): res[cell] = str(file), i + 1 + len(part.splitlines())
    return res


def compile_in_place(
    cells:dict # From `exported_cells`
)->None:
    "From now on IPython compiles exported cells under the file and the lines of their module"
    cache_code, parse = CachingCompiler.cache, CachingCompiler.ast_parse
    def named(self, transformed_code, number=0, raw_code=None):
        own = cache_code(self, transformed_code, number, raw_code)
        return cells[transformed_code.strip()][0] if transformed_code.strip() in cells else own
    def placed(self, source, filename='<unknown>', symbol='exec'):
        tree = parse(self, source, filename, symbol)
        at = cells.get(source.strip())
        return ast.increment_lineno(tree, at[1] - len(source.rstrip().splitlines())) if at and at[0] == filename else tree
    CachingCompiler.cache, CachingCompiler.ast_parse = named, placed


if __name__ == '__main__':
    compile_in_place(exported_cells())
    sys.argv[0] = 'nbdev-test'
    nbdev_test()
