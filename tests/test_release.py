"The workflows as data: what they run exists, who may publish, and that only a tag that fits is released."
import re
import shutil
import subprocess
import sys

import pytest
import yaml

FILES = ['settings.ini', 'release.py', 'CITATION.cff', 'CHANGELOG.md', 'foprokd/__init__.py']


@pytest.fixture(scope='module')
def flows(root):
    "Name -> workflow; YAML 1.1 reads the key `on` as True"
    flows = {p.stem: yaml.safe_load(p.read_text(encoding='utf-8')) for p in (root/'.github'/'workflows').glob('*.y*ml')}
    return {k: {('on' if n is True else n): v for n, v in o.items()} for k, o in flows.items()}


def runs(job): return '\n'.join(s.get('run', '') for s in job['steps'])


def test_workflows_read_only_unless_they_publish(flows):
    assert set(flows) == {'test', 'docs', 'release', 'nightly'}
    for name, flow in flows.items():
        assert flow['permissions'] == {'contents': 'read'}, name
        for key, job in flow['jobs'].items():
            assert job['timeout-minutes'] <= 90 if 'checkout' in str(job['steps']) else True, (name, key)
            writes = {k for k, v in job.get('permissions', {}).items() if v == 'write'}
            if writes: assert job['environment']['name'] in ('pypi', 'testpypi', 'github-pages') and 'checkout' not in str(job['steps'])
            if 'run' in str(job['steps']): assert not writes, f'{name}/{key} runs code and may publish'


def test_what_workflows_run_is_there(root, flows):
    text = '\n'.join(runs(j) for f in flows.values() for j in f['jobs'].values())
    for word in re.findall(r'(?:bash|python) ([\w./]+\.(?:sh|py)|\.ci/run)', text): assert (root/word).is_file(), word
    assert 'make test-all' in runs(flows['nightly']['jobs']['all']) and set(flows['nightly']['on']) == {'schedule', 'workflow_dispatch'}
    for target in re.findall(r'(?m)^ *make ([a-z-]+)', text): assert re.search(rf'(?m)^{target}:', (root/'Makefile').read_text(encoding='utf-8')), target
    assert 'bash .ci/run' in text and 'bash .github/try_wheel.sh' in text and 'make docs' in text
    script = (root/'.github'/'try_wheel.sh').read_text(encoding='utf-8')
    assert subprocess.run(['bash', '-n', str(root/'.github'/'try_wheel.sh')]).returncode == 0
    for command in ('foprokd_run', 'foprokd_data', 'foprokd_table', 'foprokd_plot', 'foprokd_predict'): assert f'"$bin/{command}"' in script


def test_the_wheel_is_tried_on_every_python_it_names(flows, settings):
    for name, job in (('test', 'newest'), ('release', 'try')):
        job = flows[name]['jobs'][job]
        assert job['strategy']['matrix']['python'] == settings['pythons'].split() and '[deploy]' in runs(job)


def test_only_a_tag_that_was_checked_and_tried_goes_to_pypi(flows):
    flow = flows['release']
    jobs, pypi, test = flow['jobs'], flow['jobs']['pypi'], flow['jobs']['testpypi']
    assert set(flow['on']) == {'push', 'workflow_dispatch'} and flow['on']['push'] == {'tags': ['v*']}
    assert pypi['if'] == "github.event_name == 'push'" and test['if'] == "github.event_name == 'workflow_dispatch'"
    assert 'python release.py "$GITHUB_REF_NAME"' in runs(jobs['build']) and 'twine check --strict' in runs(jobs['build'])
    for job, name in ((pypi, 'pypi'), (test, 'testpypi')):
        assert set(job['needs']) == {'build', 'try'} and job['environment']['name'] == name
        assert job['permissions'] == {'id-token': 'write'}, 'trusted publishing, and nothing else'
        assert [s['uses'].split('@')[0] for s in job['steps']] == ['actions/download-artifact', 'pypa/gh-action-pypi-publish']
        assert 'password' not in str(job)
    assert test['steps'][-1]['with']['repository-url'] == 'https://test.pypi.org/legacy/' and 'with' not in pypi['steps'][-1]


@pytest.fixture
def copy(root, tmp_path):
    for f in FILES:
        (tmp_path/f).parent.mkdir(exist_ok=True)
        shutil.copy(root/f, tmp_path/f)
    return tmp_path


def check(folder, tag): return subprocess.run([sys.executable, folder/'release.py', tag], capture_output=True, text=True, timeout=60)


def test_the_tag_of_this_version_may_be_released(copy, settings):
    res = check(copy, f"v{settings['version']}")
    assert res.returncode == 0, res.stderr


@pytest.mark.parametrize('file,old,new,said', [
    ('settings.ini', 'version = ', 'version = 9.', 'The tag'), ('foprokd/__init__.py', '= "', '= "9.', '__init__.py has another version'),
    ('CITATION.cff', '\nversion: ', '\nversion: 9.', 'CITATION.cff has another version'), ('CITATION.cff', 'released: 2', 'released: 1', 'was not released on'),
    ('CHANGELOG.md', '## [', '## 9.[', 'has no line'), ('CHANGELOG.md', '\n[', '\n[9.', 'has no link')])
def test_a_tag_that_does_not_fit_is_refused(copy, settings, file, old, new, said):
    text = (copy/file).read_text(encoding='utf-8')
    assert old in text
    (copy/file).write_text(text.replace(old, new), encoding='utf-8')
    res = check(copy, f"v{settings['version']}")
    assert res.returncode == 1 and said in res.stderr, res.stderr


def test_changelog_is_in_form(root, settings):
    "Keep a Changelog: newest first, known groups, a link for every version"
    text = (root/'CHANGELOG.md').read_text(encoding='utf-8')
    heads = re.findall(r'^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$', text, re.M)
    assert heads[0] == ('Unreleased', '') and len(re.findall('^## ', text, re.M)) == len(heads) and all(d for _, d in heads[1:])
    numbers = [tuple(map(int, v.split('.'))) for v, _ in heads[1:]]
    assert numbers == sorted(set(numbers), reverse=True) and settings['version'] == heads[1][0]
    assert set(re.findall(r'^### (.+)$', text, re.M)) <= {'Added', 'Changed', 'Deprecated', 'Removed', 'Fixed', 'Security', 'Known limits'}
    for v, _ in heads: assert re.search(rf'^\[{re.escape(v)}\]: {re.escape(settings["git_url"])}/', text, re.M), v
