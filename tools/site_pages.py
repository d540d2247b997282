"""What the site has beside the pages that Quarto renders.

    python tools/site_pages.py llms       # nbs/llms.txt, the list of pages in the form of llmstxt.org, from the titles of the notebooks
    python tools/site_pages.py markdown   # _docs/PAGE.html.md beside each page, after nbdev-docs; docstrings of modules link these
    python tools/site_pages.py visible    # fails where a page of _docs/ shows a link of Markdown as text

Quarto could write the Markdown itself (`commonmark`), but then warns on each page that has a figure of HTML."""
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

def write_markdown(
    root:str|Path='.' # Folder of the repository, after nbdev-docs
)->int: # Pages written
    "Each processed notebook as Markdown beside its page, without pictures"
    from nbconvert import MarkdownExporter
    made, root = 0, Path(root)
    for file in sorted((root/'_proc').rglob('*.ipynb')):
        page = root/'_docs'/page_name(file.relative_to(root/'_proc').with_suffix('').as_posix())
        if not page.with_suffix('.html').exists(): continue
        page.with_suffix('.html.md').write_text(MarkdownExporter().from_filename(str(file))[0], encoding='utf-8')
        made += 1
    return made

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
    elif sys.argv[1:] == ['visible']:
        bad = [f'{p.relative_to(root)}: {o}' for p in sorted((root/'_docs').rglob('*.html')) for o in raw_links(p.read_text(encoding='utf-8'))]
        print(*bad, sep='\n')
        sys.exit(bool(bad))
    else: sys.exit(__doc__)
