"The page of faults: each has its line, and each line names tests that stand in this folder and carry its number."
import ast
import json
import re

from conftest import ROOT

NUMBERS = [f'{letter}{i}' for letter, n in dict(A=13, B=12, D=9, E=12).items() for i in range(1, n + 1)]


def lines():
    "Number -> cells of its line in the table"
    nb = json.loads((ROOT/'nbs'/'reference'/'05_faults.ipynb').read_text(encoding='utf-8'))
    text = '\n'.join(''.join(c['source']) for c in nb['cells'] if c['cell_type'] == 'markdown')
    found = [[o.strip() for o in line.strip('| ').split(' | ')] for line in text.splitlines() if re.match(r'\| [ABDE]\d+ \|', line)]
    assert len({o[0] for o in found}) == len(found), 'a number has two lines'
    return {o[0]: o[1:] for o in found}


def known_tests():
    "Name -> name, docstring and source of each test of this folder"
    res = {}
    for file in (ROOT/'tests').glob('test_*.py'):
        source = file.read_text(encoding='utf-8')
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef) and node.name.startswith('test_'):
                res[node.name] = f'{node.name} {ast.get_docstring(node) or ""}'
    return res


def test_every_fault_has_its_line_and_each_line_says_all():
    assert [*lines()] == NUMBERS
    assert all(len(o) == 4 and all(o) for o in lines().values()), {k: len(o) for k, o in lines().items() if len(o) != 4}


def test_every_line_names_tests_that_carry_its_number():
    known = known_tests()
    for number, (*_, named) in lines().items():
        names = re.findall(r'`(test_\w+)`', named)
        assert names and not {*names} - {*known}, (number, {*names} - {*known})
        carries = re.compile(rf'(?<![a-z0-9]){number}(?!\d)', re.I)
        assert all(carries.search(known[o].replace('_', ' ')) for o in names), (number, names)
