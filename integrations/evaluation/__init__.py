"""modernrank in frameworks that measure rankings.

mteb.py         a cross encoder for MTEB's tasks
mteb_folder.py  MTEB's retrieval tasks as folders for ``modernrank eval``
pyterrier.py    a transformer for PyTerrier's pipelines
"""
