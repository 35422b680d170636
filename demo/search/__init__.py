"""Search in two stages over the descriptions that ship: SQLite's FTS5 finds candidates, modernrank ranks them.

text_index.py   the first stage: an FTS5 index and its bm25
two_stages.py   both stages, and their rankings of an evaluation set
web_page.py     both rankings side by side in a browser
__main__.py     the command line
"""
