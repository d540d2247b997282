"""The lowest versions that settings.ini allows, one `name==version` a line, as pip reads them.

    python tools/oldest.py [EXTRA ...]

A requirement without a lower limit is an error: nobody would know what it was tried with."""
import sys
from configparser import ConfigParser
from pathlib import Path

from packaging.requirements import Requirement


def lowest(
    lines:list[str] # Requirements
)->list[str]: # The same, each at its lower limit
    "Requirements pinned to the lowest version allowed; `SystemExit` names those without a limit"
    floors = {o: [s.version for s in Requirement(o).specifier if s.operator == '>='] for o in lines}
    if bad := [o for o, v in floors.items() if len(v) != 1]: raise SystemExit(f"No lower limit in settings.ini: {', '.join(bad)}")
    return [f'{Requirement(o).name}=={v}' for o, [v] in floors.items()]


if __name__ == '__main__':
    cfg = ConfigParser(delimiters=['='])
    cfg.read(Path(__file__).resolve().parents[1]/'settings.ini', encoding='utf-8')
    names = ['requirements', *(f'{o}_requirements' for o in sys.argv[1:])]
    print('\n'.join(lowest([o for n in names for o in cfg['DEFAULT'][n].split()])))
