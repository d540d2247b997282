"Everything said here comes from settings.ini, so that the version and the requirements have one home; the addresses of the project stand in pyproject.toml."
import sys
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).resolve().parent
sys.path.insert(0, str(here))
from release import absolute_links, stub  # noqa: E402

cfg = ConfigParser(delimiters=['='])
cfg.read(here/'settings.ini', encoding='utf-8')
cfg = cfg['DEFAULT']

statuses = ['1 - Planning', '2 - Pre-Alpha', '3 - Alpha', '4 - Beta', '5 - Production/Stable', '6 - Mature', '7 - Inactive']
lib, git, version = cfg['lib_name'], cfg['git_url'].rstrip('/'), cfg['version']


def long_description():
    "The README as PyPI can show it, with links to the tag of this version"
    readme = here/'README.md'
    return absolute_links(readme.read_text(encoding='utf-8'), git, f'v{version}') if readme.exists() else cfg['description']


class BuildWithStubs(build_py):
    "Puts the stubs of release.py beside the modules that need one, in the wheel only"
    def run(self):
        super().run()
        if self.editable_mode: return
        for p in sorted((Path(self.build_lib)/lib).rglob('*.py')):
            text = stub(p.read_text(encoding='utf-8'))
            if text: p.with_suffix('.pyi').write_text(text, encoding='utf-8')


setup(
    name=lib,
    version=version,
    description=cfg['description'],
    long_description=long_description(),
    long_description_content_type='text/markdown',
    author=cfg['author'],
    # PyPI refuses an address of the reserved domain that stands in settings.ini until there is one.
    author_email=None if cfg['author_email'].endswith('.invalid') else cfg['author_email'],
    license_expression='Apache-2.0',
    keywords=cfg['keywords'].split(),
    classifiers=[
        f"Development Status :: {statuses[int(cfg['status']) - 1]}",
        f"Intended Audience :: {cfg['audience']}",
        f"Natural Language :: {cfg['language']}",
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3 :: Only',
        *(f'Programming Language :: Python :: {v}' for v in cfg['pythons'].split()),
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Medical Science Apps.',
        'Typing :: Typed',
    ],
    packages=find_packages(include=[lib, f'{lib}.*']),
    package_data={lib: ['py.typed', 'weights/*.safetensors', 'app/*.ipynb']},
    include_package_data=False,
    zip_safe=False,
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg['requirements'].split(),
    extras_require={k: cfg[f'{k}_requirements'].split() for k in ('data', 'track', 'app', 'distributed', 'deploy', 'explain', 'dicom', 'dev')},
    entry_points={
        'console_scripts': cfg['console_scripts'].split(),
        'nbdev': [f'{lib}={lib}._modidx:d'],
    },
    cmdclass={'build_py': BuildWithStubs},
)
