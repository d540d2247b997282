"""The site and the Markdown around it: links, anchors, alternative text, saved outputs, the glossary, and the pictures drawn by code.

Pages are what nbdev hands to Quarto (the fixture `site` of conftest.py). Nothing goes over the network: of a link to elsewhere only the form is checked."""
import ast
import base64
import importlib.util
import io
import json
import re
from collections import Counter
from configparser import ConfigParser
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mistune
import numpy as np
import pytest
import yaml
from PIL import Image

from conftest import ROOT
from checks import PAGES, WINGS, cell_source, read_notebooks
from site_pages import definitions, llms_text, raw_links, write_markdown, write_search

CFG = ConfigParser(delimiters=['='])
CFG.read(ROOT/'settings.ini', encoding='utf-8')
CFG = CFG['DEFAULT']
SITE = CFG['doc_host'] + CFG['doc_baseurl']
REPO = CFG['git_url']
AROUND = [*ROOT.glob('*.md'), *(p for o in ('data_cards', 'studies', 'benchmarks') for p in (ROOT/o).glob('*.md'))]
markdown = mistune.create_markdown(renderer=None, plugins=['table'])
picture = re.compile(r'image/|application/vnd\.jupyter\.widget-view')
machine = re.compile(r'(?<![\w/.$}~])/(?:home|root|tmp|work|Users|var|opt|mnt)/\w|\b[A-Z]:\\\\?\w|site-packages')


# What is on a page.

def words(tokens):
    "Text of inline tokens without their marks"
    return ''.join(t.get('raw', '') if t['type'] != 'inline_html' else '' for t in flat(tokens) if 'children' not in t or t['type'] == 'codespan')


def flat(tokens):
    "All tokens of a tree, parents first"
    for t in tokens or []:
        yield t
        yield from flat(t.get('children'))


def pandoc_id(text):
    "Identifier that Pandoc gives a heading: letters, digits, `_-.`, from the first letter on"
    text = re.sub(r'[^\w\s.-]', '', text).lower()
    return re.sub(r'^[^a-z\u00df-\uffff]+', '', re.sub(r'\s+', '-', text.strip())) or 'section'


def github_id(text):
    "Identifier that GitHub gives a heading"
    return re.sub(r'[^\w -]', '', text.lower()).strip().replace(' ', '-')


class Tags(HTMLParser):
    "Identifiers, links and pictures of raw HTML"
    def __init__(self): super().__init__(); self.ids, self.links, self.images = [], [], []

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.ids += [a[k] for k in ('id', 'name') if a.get(k) and (k == 'id' or tag == 'a')]
        if tag == 'a' and a.get('href'): self.links.append(a['href'])
        if tag == 'img' and (a.get('src') or 'src' in a): self.images.append((a['src'] or '', a.get('alt') or ''))
        if tag == 'source' and a.get('srcset'): self.links.append(a['srcset'].split()[0])


class Page:
    "Links, pictures and anchors of Markdown texts, in order, and of raw HTML"
    def __init__(self, texts, html=(), rule=pandoc_id):
        self.links, self.images, ids, lost, tags = [], [], [], set(), Tags()
        for text in texts:
            text = re.sub(r'\A---\n(?=\w).*?\n---\n', '', text, flags=re.S)
            text = re.sub(r'<!--.*?-->', '', text, flags=re.S)
            before = None
            for t in markdown(text):
                if t['type'] == 'heading':
                    name = words(t['children'])
                    own = re.search(r'\s*\{([^}]*)\}\s*$', name)
                    fixed = own and re.search(r'#([\w.:-]+)', own[1])
                    ids.append(fixed[1] if fixed else rule(name[:own.start()] if own else name))
                    if before == 'callout': lost.add(len(ids) - 1)  # Quarto makes it the title of the box
                if t['type'] == 'blank_line': continue
                before = 'callout' if t['type'] == 'paragraph' and re.match(r':::+ *\{.*callout', words(t['children'])) else None
            for t in flat(markdown(text)):
                if t['type'] == 'link': self.links.append(t['attrs']['url'])
                if t['type'] == 'image': self.images.append((t['attrs']['url'], words(t['children'])))
                if t['type'] in ('block_html', 'inline_html'): tags.feed(t['raw'])
        for o in html: tags.feed(o)
        self.links += tags.links
        self.images += tags.images
        seen, self.anchors = Counter(), set(tags.ids)
        for i, o in enumerate(ids):
            if i not in lost: self.anchors.add(f'{o}-{seen[o]}' if seen[o] else o)
            seen[o] += 1

    @classmethod
    def of_notebook(cls, nb):
        "The page that Quarto makes of a processed notebook"
        texts, html = [], []
        for c in nb['cells']:
            if c['cell_type'] == 'markdown': texts.append(''.join(c['source']))
            for o in c.get('outputs', []):
                data = {k: ''.join(v) for k, v in o.get('data', {}).items() if isinstance(v, (str, list))}
                if 'text/markdown' in data: texts.append(data['text/markdown'])
                elif 'text/html' in data: html.append(data['text/html'])
        return cls(texts, html)


class Site:
    "All pages of the folder that nbdev made"
    def __init__(self, folder):
        self.folder = folder
        self.notebooks = {f'{n}.ipynb': nb for n, nb in read_notebooks(folder).items()}
        self.pages = {n: Page.of_notebook(nb) for n, nb in self.notebooks.items()}
        for p in (o for o in folder.rglob('*.md') if not any(part[0] in '_.' for part in o.relative_to(folder).parts)):
            self.pages[p.relative_to(folder).as_posix()] = Page([p.read_text(encoding='utf-8')])
        self.html = {self._output(n): n for n in self.pages}

    def _output(self, name):
        "File name of the page on the site: nbdev drops the number"
        if not name.endswith('.ipynb'): return str(Path(name).with_suffix('.html'))
        front = ''.join(self.notebooks[name]['cells'][0]['source'])
        found = re.search(r'^output-file: (\S+)$', front, re.M)
        return (Path(name).parent/(found[1] if found else f'{Path(name).stem}.html')).as_posix()

    def problem(self, name, url):
        "What is wrong with a link of page `name`, or None"
        if url.startswith(SITE):
            rest, _, anchor = url[len(SITE):].lstrip('/').partition('#')
            target = self.html.get(rest or 'index.html')
            if target is None: return 'no such page'
        elif urlsplit(url).scheme: return outside(url)
        else:
            path, _, anchor = unquote(url).partition('#')
            if path.startswith('/'): return 'begins at the root'
            file = (self.folder/name).parent/path if path else self.folder/name
            if not file.exists(): return 'no such file on the site'
            target = file.resolve().relative_to(self.folder.resolve()).as_posix()
        if anchor and anchor not in getattr(self.pages.get(target), 'anchors', ()): return f'{target} has no heading {anchor}'


def outside(url):
    "What is wrong with the form of a link to elsewhere, or None; one into our repository must name what is there"
    o = urlsplit(url)
    if o.scheme == 'mailto': return None if '@' in o.path else 'no address'
    if o.scheme not in ('http', 'https') or not re.fullmatch(r'[\w-]+(\.[\w-]+)+(:\d+)?', o.netloc) or re.search(r'[\s<>"]|\.\.\.', url.replace('...HEAD', '')):
        return 'malformed'
    inside = re.fullmatch(re.escape(REPO) + r'/(?:blob|tree)/[\w.-]+/([^#]*)(?:#.*)?', url)
    if inside and not (ROOT/unquote(inside[1])).exists(): return 'no such file in the repository'


def around_problem(file, url, site):
    "What is wrong with a link of a Markdown file as GitHub shows it, or None"
    if url.startswith(SITE): return site.problem('index.ipynb', url)
    if urlsplit(url).scheme: return outside(url)
    path, _, anchor = unquote(url).partition('#')
    target = (file.parent/path) if path else file
    if not target.exists(): return 'no such file'
    if not anchor: return None
    name = target.relative_to(ROOT/'nbs').as_posix() if target.suffix == '.ipynb' else None
    anchors = site.pages[name].anchors if name else Page([target.read_text(encoding='utf-8')], rule=github_id).anchors
    return None if anchor in anchors else f'{path} has no heading {anchor}'


@pytest.fixture(scope='module')
def pages(site): return Site(site)


# The rules for identifiers, on their own.

def test_identifiers_are_pandocs_and_githubs():
    "Pandoc's examples in its manual, under auto_identifiers, and what else our headings hold"
    for text, name in {'Heading identifiers in HTML': 'heading-identifiers-in-html', 'Maître d\'hôtel': 'maître-dhôtel', '33': 'section', 'Does 95 % mean 95?': 'does-95-mean-95', '3. Applications': 'applications',
                       '[HTML], [S5], or [RTF]?': 'html-s5-or-rtf', 'fit_fopro(epochs=3)': 'fit_foproepochs3', 'SpectralPrompt.penalty': 'spectralprompt.penalty'}.items():
        assert pandoc_id(text) == name
    assert github_id('3. Applications, now') == '3-applications-now'
    page = Page(['# T\n\n## *Dogs*? in _my_ `house`\n\n## Same\n\n## Same\n\n## Named {#own}\n\n```\n## code\n[a](b)\n```\n\n::: {.callout-note}\n## Choice\nText\n:::\n\n[l](x.md "t") ![alt](p.png)'
                 ' <img src="q.png"> `[c](d)`\n\n<a id="here"></a>'])
    assert page.anchors == {'t', 'dogs-in-my-house', 'same', 'same-1', 'own', 'here'}
    assert page.links == ['x.md'] and page.images == [('p.png', 'alt'), ('q.png', '')]


def test_a_broken_link_is_found(tmp_path):
    (tmp_path/'a.md').write_text('# A\n\n## Part\n'); (tmp_path/'nb.ipynb').write_text(json.dumps({'cells': [
        {'cell_type': 'raw', 'source': '---\noutput-file: other.html\n---'}, {'cell_type': 'markdown', 'source': '## Here'}]}))
    (tmp_path/'data').mkdir()
    (tmp_path/'data'/'01_in.ipynb').write_text(json.dumps({'cells': [
        {'cell_type': 'raw', 'source': '---\noutput-file: in.html\n---'}, {'cell_type': 'markdown', 'source': '## Deep'}]}))
    site = Site(tmp_path)
    assert [site.problem('data/01_in.ipynb', o) for o in ('../a.md#part', '#deep', '01_in.ipynb')] == [None] * 3
    assert all(site.problem('data/01_in.ipynb', o) for o in ('a.md', '../a.md#other', '../in.html', 'data/01_in.ipynb'))
    good = ['a.md', 'data/01_in.ipynb#deep', f'{SITE}/data/in.html#deep', 'a.md#part', 'nb.ipynb#here', '#part', f'{SITE}/other.html#here',
            f'{REPO}/blob/main/README.md', f'{REPO}/blob/main/setup.py#L3', 'https://doi.org/10.1109/TMI']
    bad = ['b.md', 'a.md#other', 'nb.ipynb#part', '#there', f'{SITE}/nb.html', f'{SITE}/in.html', 'data/01_in.ipynb#part', f'{SITE}/other.html#part',
           f'{REPO}/blob/main/NONE.md', 'https://...', 'https:///x', 'htp://a.b', '/a.md', '../setup.py']
    assert [site.problem('a.md', o) for o in good] == [None] * len(good)
    assert all(site.problem('a.md', o) for o in bad), [o for o in bad if not site.problem('a.md', o)]


# The site.

def test_every_page_is_made(site):
    "All that nbdev does for the site before Quarto, for every notebook of every wing"
    for name in read_notebooks(ROOT/'nbs'): assert (site/f'{name}.ipynb').exists(), f'{name} is not on the site'
    assert (site/'_quarto.yml').read_text() == (ROOT/'_quarto.yml').read_text()


def test_every_link_of_the_site_leads_somewhere(pages):
    bad = [f'{n}: {url}: {p}' for n, page in pages.pages.items() for url in page.links if (p := pages.problem(n, url))]
    assert bad == []
    assert sum(len(p.links) for p in pages.pages.values()) > 500, 'the links were not found'


def test_every_link_of_the_markdown_leads_somewhere(pages):
    found = {p: Page([p.read_text(encoding='utf-8')], rule=github_id) for p in AROUND}
    assert [f'{p.name}: {url}: {o}' for p, page in found.items() for url in page.links if (o := around_problem(p, url, pages))] == []
    assert [f'{p.name}: {src}' for p, page in found.items() for src, _ in page.images
            if not urlsplit(src).scheme and not (p.parent/src).exists()] == []
    assert [f'{p.name}: {src} without alternative text' for p, page in found.items() for src, alt in page.images if not alt.strip()] == []


def test_every_picture_has_alternative_text(pages):
    bad, n = [], 0
    for name, page in pages.pages.items():
        bad += [f'{name}: {src} without alternative text' for src, alt in page.images if not alt.strip()]
        bad += [f'{name}: {src}: {p}' for src, _ in page.images if not src.startswith('data:') and (p := pages.problem(name, src))]
    for name, nb in pages.notebooks.items():
        for c in nb['cells']:
            shown = [k for o in c.get('outputs', []) for k in o.get('data', {}) if picture.match(k)]
            n += bool(shown)
            if shown and not alt_text(c): bad.append(f"{name} #{c.get('id')}: {shown[0]} without #| fig-alt")
            kinds = [k for o in c.get('outputs', []) for k in o.get('data', {})]
            if any('widget' in k for k in kinds) and not any(k.startswith(('image/', 'text/html')) for k in kinds):
                bad.append(f"{name} #{c.get('id')}: a widget without a still picture")
    assert bad == []
    assert n > 60, 'the pictures were not found'


def alt_text(cell):
    "The alternative text that Quarto reads at the top of a cell, '' if there is none"
    lines = [o for o in ''.join(cell['source']).splitlines() if o.startswith('#|')]
    options = yaml.safe_load('\n'.join(o[2:].strip() for o in lines if ':' in o)) or {}
    return str(options.get('fig-alt') or '')


def test_alternative_text_is_a_sentence_that_is_used_once(pages):
    texts = {f"{n} #{c.get('id')}": t for n, nb in pages.notebooks.items() for c in nb['cells'] if c['cell_type'] == 'code' and (t := alt_text(c))}
    assert [k for k, t in texts.items() if not 30 <= len(t) <= 300 or not t.endswith('.')] == []
    assert [t for t, n in Counter(texts.values()).items() if n > 1] == []
    assert [k for k, t in texts.items() if re.match(r'(an? )?(plot|image|picture|figure|graph)\b of', t, re.I)] == []


def draws(cell):
    "Whether code of a cell that is not inside a function draws with matplotlib and lets the picture be seen"
    tree = ast.parse(re.sub(r'^\s*[%!].*$', '', ''.join(cell['source']), flags=re.M))
    calls = [ast.unparse(n.func) for t in tree.body if not isinstance(t, (ast.FunctionDef, ast.ClassDef)) for n in ast.walk(t) if isinstance(n, ast.Call)]
    return any(re.fullmatch(r'plt\.(subplots|figure|plot|bar|imshow|hist)', o) for o in calls) and not any(o == 'plt.close' for o in calls)


def test_pages_are_rendered_from_committed_outputs_alone(pages, site):
    "Quarto executes nothing; what nbdev documents has its output; what draws has its picture"
    assert yaml.safe_load((site/'_quarto.yml').read_text(encoding='utf-8'))['execute'] == {'enabled': False}
    bad = []
    for name, nb in pages.notebooks.items():
        for c in nb['cells']:
            if c['cell_type'] != 'code': continue
            kinds = {k for o in c.get('outputs', []) for k in o.get('data', {})}
            shown, where = any(picture.match(k) for k in kinds), f"{name} #{c.get('id')}"
            if ''.join(c['source']).rstrip().split('\n')[-1].startswith('show_doc(') and 'text/markdown' not in kinds:
                bad.append(f'{where}: nothing is documented')
            if (draws(c) or alt_text(c)) and not shown: bad.append(f'{where}: no picture is saved')
    assert bad == []


def test_no_page_names_a_path_of_a_machine(pages):
    shown = {n: [''.join(v) for c in nb['cells'] for o in c.get('outputs', []) for k, v in [*o.get('data', {}).items(), ('text/', o.get('text', ''))] if k.startswith('text/')]
             for n, nb in pages.notebooks.items()}
    shown |= {n: shown.get(n, []) + [''.join(c['source']) for c in nb['cells'] if c['cell_type'] == 'markdown'] for n, nb in pages.notebooks.items()}
    shown |= {p.name: [p.read_text(encoding='utf-8')] for p in AROUND}
    assert [(n, m[0]) for n, texts in shown.items() for t in texts if (m := machine.search(t))] == []


# The configuration.

def entries(o, folder):
    "Every page that the navigation names; a pattern gives what it matches below `folder`, by name, as Quarto does: without the front page"
    if isinstance(o, str):
        if '*' not in o: yield o
        else: yield from (n for n in sorted(p.relative_to(folder).as_posix() for p in folder.glob(o.lstrip('/'))) if n != 'index.ipynb')
    if isinstance(o, dict):
        if 'href' in o: yield o['href']
        for k in ('left', 'right', 'tools', 'menu', 'contents'): yield from entries(o.get(k), folder)
    for i in o if isinstance(o, list) else (): yield from entries(i, folder)


def test_entries_of_the_navigation(tmp_path):
    for n in ('index.ipynb', '01_b.ipynb', '00_a.ipynb', 'data/01_c.ipynb', 'data/x.md'):
        (tmp_path/n).parent.mkdir(exist_ok=True)
        (tmp_path/n).touch()
    bar = ['index.ipynb', {'section': 'Method', 'contents': '/*.ipynb'}, {'section': 'Data', 'contents': 'data/*.ipynb'}, {'text': 'A', 'menu': [{'text': 'B', 'href': 'b.md'}]}]
    assert list(entries(bar, tmp_path)) == ['index.ipynb', '00_a.ipynb', '01_b.ipynb', 'data/01_c.ipynb', 'b.md']


def test_the_navigation_names_every_page_and_nothing_else(pages, site):
    web = yaml.safe_load((site/'_quarto.yml').read_text(encoding='utf-8'))['website']
    side, bar = list(entries(web['sidebar'], site)), list(entries(web['navbar'], site))
    assert [o for o in side + bar if pages.problem('index.ipynb', o)] == []
    assert sorted(side) == sorted(pages.pages), 'a page is not in the sidebar, or twice'
    contents = web['sidebar']['contents']
    assert len(contents) <= 15 and [o for o in contents if isinstance(o, dict)][0]['section'] == 'Method'
    assert all(list(entries(o, site)) for o in contents), 'Quarto stops at a section without pages'
    assert {o['contents'].split('/')[0] for o in contents[1:]} == {'', *WINGS, *PAGES, 'data_cards'}
    assert web['search']['location'] == 'navbar' and web['navbar']['search'] is True
    assert [n for n, k in Counter(pages._output(n) for n in pages.pages).items() if k > 1] == [], 'two pages of one name'


def test_title_address_and_description_are_those_of_the_settings(site):
    q = yaml.safe_load((site/'_quarto.yml').read_text(encoding='utf-8'))
    web = q['website']
    assert (web['title'], web['description'], web['site-url']) == (CFG['lib_name'], CFG['description'], SITE)
    assert (web['repo-url'], web['repo-branch']) == (REPO, CFG['branch'])
    assert q['project']['output-dir'] == '_docs' and 'metadata-files' not in q


def test_the_data_cards_are_pages(pages):
    cards = {p.name for p in (ROOT/'data_cards').glob('*.md')}
    links = {p.name: p for p in (ROOT/'nbs'/'data_cards').iterdir()}
    assert set(links) == cards, 'a card has no link in nbs/data_cards, or a link no card'
    assert all(p.is_symlink() and str(p.readlink()) == f'../../data_cards/{n}' for n, p in links.items())
    assert {f'data_cards/{n}' for n in cards} <= set(pages.pages)
    for n in cards:
        _, head, body = (ROOT/'data_cards'/n).read_text(encoding='utf-8').split('---\n', 2)
        told = yaml.safe_load(head)
        assert told['title'].startswith(('Data card', 'Embedded')), 'the title of a browser is that of the front matter'
        assert told['image'].startswith(SITE) and told['repo-actions'] is False, 'a card is a link, which GitHub cannot show'
        assert not re.search('^# ', body, re.M), 'a second title'


def test_the_list_of_pages_for_programs_is_in_step():
    text = (ROOT/'nbs'/'llms.txt').read_text(encoding='utf-8')
    assert text == llms_text(read_notebooks(ROOT/'nbs'), ROOT), 'run `make export`'
    assert re.match(r'# foprokd\n\n> .+\n\n', text) and '\n## Optional\n' in text, 'the form of llmstxt.org'
    links = re.findall(rf'^- \[.+\]\({SITE}/([\w/]+)\.html\.md\): \S', text, re.M)
    assert len(links) == len(set(links)) == len(read_notebooks(ROOT/'nbs')) - 1
    assert {'prompt', 'data/longtail', 'tutorials/quickstart', 'reference/names'} <= set(links)


def test_each_tutorial_opens_in_colab():
    "A badge with its own address, and a cell that installs the package there and nowhere else"
    for name, nb in read_notebooks(ROOT/'nbs').items():
        if not name.startswith('tutorials/'): continue
        badge, install = map(cell_source, nb['cells'][1:3])
        assert f"](https://colab.research.google.com/github/{REPO.split('/', 3)[3]}/blob/{CFG['branch']}/nbs/{name}.ipynb)" in badge, name
        assert install.startswith('#| hide\n') and re.search(rf"! \[ -e /content \] && pip install -Uqq 'foprokd(\[\w+\])? @ git\+{REPO}'$", install), name


def test_pages_are_written_as_markdown_beside_their_html(tmp_path):
    for folder in ('_proc/data', '_docs/data'): (tmp_path/folder).mkdir(parents=True)
    cell = dict(cell_type='markdown', id='a', metadata={}, source='# Prompt\n\nTen numbers.')
    nb = json.dumps(dict(cells=[cell], metadata={}, nbformat=4, nbformat_minor=5))
    for n in ('data/01_longtail', '05_prompt', '09_gone'): (tmp_path/'_proc'/f'{n}.ipynb').write_text(nb)
    for n in ('data/longtail', 'prompt'): (tmp_path/'_docs'/f'{n}.html').touch()
    assert write_markdown(tmp_path) == 2
    assert (tmp_path/'_docs'/'data'/'longtail.html.md').read_text().strip() == '# Prompt\n\nTen numbers.'
    assert not (tmp_path/'_docs'/'gone.html.md').exists()


def test_the_search_of_the_site_finds_definitions_first(tmp_path):
    for folder in ('_proc', '_docs'): (tmp_path/folder).mkdir()
    def made(name, said): return dict(cell_type='code', source=f'#| echo: false\nshow_doc({name})', outputs=[dict(data={'text/markdown': [
        '---\n\n[source](https://a.b)\n\n', f'### {name}\n\n```python\ndef f(\n    x, # One * here\n)\n```\n\n*{said}*\n\nMore *text*.']})])
    cells = [made('Teacher.fit', 'Fit [`Teacher`](https://a.b/c)s (ours)'), dict(cell_type='markdown', source='## Why'), made('Teacher', 'Frozen'),
             dict(cell_type='code', source='show_doc(f)', outputs=[])]
    assert definitions(dict(cells=cells)) == [('Teacher.fit', 'Fit Teachers (ours)'), ('Teacher', 'Frozen')]
    (tmp_path/'_proc'/'10_teacher.ipynb').write_text(json.dumps(dict(cells=cells)))
    (tmp_path/'_docs'/'teacher.html').touch()
    quarto = [dict(objectID=o, href=o, title='Teachers', section=s, text='Teacher '*9, crumbs=['Method'])
              for o, s in (('teacher.html', ''), ('teacher.html#why', 'Why'))]
    (tmp_path/'_docs'/'search.json').write_text(json.dumps(quarto))
    for _ in range(2):  # a second time adds nothing
        assert write_search(tmp_path) == 2
        found = json.loads((tmp_path/'_docs'/'search.json').read_text())
        assert [o['href'] for o in found] == ['teacher.html#teacher', 'teacher.html#teacher.fit', 'teacher.html', 'teacher.html#why']
        assert found[1] == dict(quarto[0], objectID=found[1]['href'], href=found[1]['href'], section='Teacher.fit', text='Teacher.fit: Fit Teachers (ours)')


def test_a_link_that_was_not_rendered_is_found():
    page = '<p>see <a href="x">it</a> and [<code>name</code>](https://a.b/c) now</p>'
    assert raw_links(page) == ['see it and [](https://a.b/c'] and raw_links('<pre>[a](https://a.b)</pre><p>fine</p>') == []


def test_icon_card_and_themes(site):
    q = yaml.safe_load((site/'_quarto.yml').read_text(encoding='utf-8'))
    web = q['website']
    assert set(q['format']['html']['theme']) == {'light', 'dark'}
    assert Image.open(site/web['favicon']).size == (64, 64)
    for o in (web, web['open-graph'], web['twitter-card']):
        assert Image.open(site/o['image']).size == (1200, 630) and len(o['image-alt']) > 30
    assert (web['open-graph']['image-width'], web['open-graph']['image-height']) == (1200, 630)
    assert (site/web['image']).stat().st_size < 100 * 1024
    assert 'not a medical device' in web['page-footer']['center'] and 'Apache-2.0' in web['page-footer']['left']
    assert (site/q['format']['html']['css']).exists()


# The pictures drawn by code.

def pictures_of(svg):
    "Pictures inside an SVG as arrays, and the rest of its text"
    uris = re.findall(r'data:image/jpeg;base64,([^"]+)', svg)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(o))), float) for o in uris], re.sub(r'data:image/[^"]+', '', svg)


def alike(a, b, mean=2.):
    "Whether two pictures are the same up to what another version of a font or of a JPEG coder changes"
    a, b = (np.asarray(o.convert('RGBA') if isinstance(o, Image.Image) else o, float) for o in (a, b))
    return a.shape == b.shape and np.abs(a - b).mean() < mean


def test_the_committed_pictures_are_what_the_code_draws(tmp_path):
    source = ROOT/'nbs'/'images'/'_draw.py'
    spec = importlib.util.spec_from_file_location('_draw', source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.draw(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in source.parent.iterdir() if p.suffix in ('.png', '.svg')}
    for p in sorted(tmp_path.glob('*.png')): assert alike(Image.open(p), Image.open(source.parent/p.name)), p.name
    for p in sorted(tmp_path.glob('*.svg')):
        (new, text), (old, kept) = (pictures_of(o.read_text(encoding='utf-8')) for o in (p, source.parent/p.name))
        assert text == kept and len(new) == len(old) == 4 and all(map(alike, new, old)), p.name
        assert '<title>' in text and p.stat().st_size < 60 * 1024
    card = Image.open(tmp_path/'card.png').convert('RGB')
    assert not alike(card, Image.eval(card, lambda v: 255 - v)) and not alike(card, Image.fromarray(np.roll(card, 40, 1)))


# The glossary.

TERMS = 'EKD FPG AKD BSM KD DC ECE MCC AUROC FFT BN KL DRW LDAM EMA AMP'.split()
NAMES = ('API BMP BY CC CI CPU CSV CUDA UTF DICOM GIF GPU HEIC HTML HTTP IEEE ISIC JPEG JSON KB MB GB MIT NC OK PDF PIL PNG PPM PR PYPI README RGB RGBA SVG TIFF TMI URL YAML '
         'CVPR ICCV ECCV ICLR NEURIPS CIFAR ' # publishers and sets
         'DINO LT MAS '  # of ISIC-LT and Fed-MAS
         'NV MEL BCC BKL AK SCC VASC DF').split()  # the classes of ISIC, which its data card names


def abbreviations(text):
    "Words of two to six capitals in prose, code, formulas and addresses left out; a plural is its singular"
    for pattern in (r'```.*?```', r'`[^`]*`', r'\$\$.*?\$\$', r'\$[^$\n]*\$', r'\]\([^)]*\)', r'https?:\S+', r'(?m)^ {4}.*$'):
        text = re.sub(pattern, ' ', text, flags=re.S if '.*?' in pattern else 0)
    return set(re.findall(r'(?<!\w)[A-Z]{2,6}(?=s?\b)', text))


def test_every_abbreviation_is_in_the_glossary():
    "Those that three pages use, and those of a fixed list that any page uses"
    nbs = read_notebooks(ROOT/'nbs')
    prose = {s: '\n\n'.join(cell_source(c) for c in nb['cells'] if c['cell_type'] == 'markdown') for s, nb in nbs.items()}
    used = Counter(t for s, text in prose.items() if s != 'reference/02_glossary' for t in abbreviations(text))
    need = {t for t, n in used.items() if n >= 3 or t in TERMS} - set(NAMES)
    heads = re.findall(r'^#{2,3} (.+)$', prose.get('reference/02_glossary', ''), re.M)
    assert heads, 'there is no glossary with a heading for each term'
    have = {w for h in heads for w in re.findall(r'\w+', h)}
    assert sorted(need - have) == [], 'not in nbs/reference/02_glossary.ipynb'
    assert [h for h, n in Counter(heads).items() if n > 1] == []
    assert {'EKD', 'DC'} <= need, 'the abbreviations were not found'


def test_abbreviations_are_found():
    assert abbreviations('EKDs and `FFT` of $KL$ in [MCC](AUROC.md), A, CPU-bound, IoU, ABCDEFGH') == {'EKD', 'MCC', 'CPU'}
