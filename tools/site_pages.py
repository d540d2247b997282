"""What the site has beside the pages that Quarto renders.

    python tools/site_pages.py llms       # nbs/llms.txt, the list of pages in the form of llmstxt.org, from the titles of the notebooks
    python tools/site_pages.py markdown   # _docs/PAGE.html.md beside each page, after nbdev-docs; docstrings of modules link these
    python tools/site_pages.py search     # _docs/search.json, after nbdev-docs: Quarto lists sections of the second level, not definitions
    python tools/site_pages.py visible    # fails where a page of _docs/ shows a link of Markdown as text

Quarto could write the Markdown itself (`commonmark`), but then warns on each page that has a figure of HTML."""
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

from checks import _settings, cell_source, module_of, read_notebooks

PARTS = (('Tutorials', 'tutorials/'), ('Reference', 'reference/'), ('The method', ''), ('Data', 'data/'), ('Training', 'train/'),
    ('Measures', 'measure/'), ('Frequencies', 'frequency/'), ('Deployment', 'deploy/'), ('Study', 'study/'), ('Optional', 'studies/'))

def page_name(
    stem:str # Path of a notebook below nbs/, without its ending
)->str: # Path of its page without its ending: nbdev drops the number
    "Name of the page that a notebook becomes"
    folder, _, name = stem.rpartition('/')
    return '/'.join(filter(None, [folder, module_of(stem).rpartition('.')[2] or name]))

def head(
    nb:dict # Notebook
)->tuple[str, str]: # Title, the sentence below it
    "Title of a page and what it says of itself"
    lines = cell_source(nb['cells'][0]).splitlines()
    said = ' '.join(o[1:].strip() for o in lines if o.startswith('>'))
    return lines[0].lstrip('# '), said

def llms_text(
    nbs:dict[str, dict], # Path -> notebook
    root:str|Path='.' # Folder of the repository
)->str: # Markdown in the form of llmstxt.org
    "The list of pages for readers that are programs"
    cfg = _settings(root)
    base = f"{cfg['doc_host'].rstrip('/')}/{cfg['doc_baseurl'].strip('/')}"
    res = [f"# {cfg['lib_name']}", f"> {cfg['description']}", head(nbs['index'])[1]]
    for name, folder in PARTS:
        stems = [s for s in nbs if s != 'index' and s.rpartition('/')[0] == folder.rstrip('/')]
        if stems: res.append(f'## {name}\n\n' + '\n'.join('- [{1}]({0}): {2}'.format(f'{base}/{page_name(s)}.html.md', *head(nbs[s])) for s in stems))
    return '\n\n'.join(res) + '\n'

def _rendered(root):
    "Processed notebooks that have a page, and its address without ending"
    for file in sorted((root/'_proc').rglob('*.ipynb')):
        name = page_name(file.relative_to(root/'_proc').with_suffix('').as_posix())
        if (root/'_docs'/f'{name}.html').exists(): yield file, name

def write_markdown(
    root:str|Path='.' # Folder of the repository, after nbdev-docs
)->int: # Pages written
    "Each processed notebook as Markdown beside its page, without pictures"
    from nbconvert import MarkdownExporter
    made, root = 0, Path(root)
    for file, name in _rendered(root):
        (root/'_docs'/f'{name}.html.md').write_text(MarkdownExporter().from_filename(str(file))[0], encoding='utf-8')
        made += 1
    return made

def definitions(
    nb:dict # Notebook, after nbdev has processed it
)->list[tuple[str, str]]: # Name, first sentence of its documentation
    "What has a heading made by nbdev's `show_doc`"
    res = []
    for c in nb['cells']:
        if not re.search(r'^show_doc\(', cell_source(c), re.M): continue
        told = ''.join(''.join(o.get('data', {}).get('text/markdown', '')) for o in c.get('outputs', []))
        found = re.search(r'^### ([A-Za-z]\S*)\n(?:.*?^```\n\s*\*(.*?)\*$)?', told, re.M | re.S)
        if found: res.append((found[1], re.sub(r'\[([^\]]*)\]\(\S*?\)', r'\1', found[2] or '').replace('`', '')))
    return res

def write_search(
    root:str|Path='.' # Folder of the repository, after nbdev-docs
)->int: # Definitions in the index
    "An entry for each definition, before all others: of equal answers the site's search shows the first, so the shortest name leads"
    root = Path(root)
    file, own = root/'_docs'/'search.json', []
    old = json.loads(file.read_text(encoding='utf-8'))
    pages = {o['href']: o for o in reversed(old)}
    for path, name in _rendered(root):
        page = pages.get(f'{name}.html', {})
        for o, said in definitions(json.loads(path.read_text(encoding='utf-8'))):
            href = f'{name}.html#{o.lower()}'
            own.append({**page, 'objectID': href, 'href': href, 'title': page.get('title', name), 'section': o, 'text': f'{o}: {said}'})
    made = {o['objectID'] for o in own}
    own.sort(key=lambda o: (o['section'].count('.'), len(o['section']), o['href']))
    file.write_text(json.dumps(own + [o for o in old if o['objectID'] not in made], indent=2, ensure_ascii=False), encoding='utf-8')
    return len(own)

class _Text(HTMLParser):
    "Text of a page outside code, scripts and styles"
    def __init__(self):
        super().__init__()
        self.inside, self.text = [], []

    def handle_starttag(self, tag, attrs):
        if tag in ('pre', 'code', 'script', 'style'): self.inside.append(tag)

    def handle_endtag(self, tag):
        if self.inside and self.inside[-1] == tag: self.inside.pop()

    def handle_data(self, data):
        if not self.inside: self.text.append(data)

def raw_links(
    html:str # Page
)->list[str]: # Each link of Markdown in what a visitor reads, with some text before it
    "Markdown that Quarto did not render; code may hold it"
    page = _Text()
    page.feed(html)
    return re.findall(r'.{0,30}\]\(https?://[^)\s]*', ''.join(page.text))


if __name__ == '__main__':
    root = Path(__file__).resolve().parents[1]
    if sys.argv[1:] == ['llms']: (root/'nbs'/'llms.txt').write_text(llms_text(read_notebooks(root/'nbs'), root), encoding='utf-8')
    elif sys.argv[1:] == ['markdown']: print(write_markdown(root), 'pages')
    elif sys.argv[1:] == ['search']: print(write_search(root), 'definitions')
    elif sys.argv[1:] == ['visible']:
        bad = [f'{p.relative_to(root)}: {o}' for p in sorted((root/'_docs').rglob('*.html')) for o in raw_links(p.read_text(encoding='utf-8'))]
        print(*bad, sep='\n')
        sys.exit(bool(bad))
    else: sys.exit(__doc__)
