"""The status page: what the bot has published, what it will do, and what failed, as a static site.

``records`` says what is shown, ``collect`` gathers it, ``pages`` makes files of it and ``write`` puts them in a folder.
"""
