"""The page as a Django application writes it: unmodified Django, one template-like loop.

    django_page.py PORT autocommit|repeatable-read
"""
import contextlib
import sys

import django
from django.conf import settings

from page import measure

port, mode = sys.argv[1:3]
options = {}
if mode == 'repeatable-read':
    import psycopg2.extensions
    options['isolation_level'] = psycopg2.extensions.ISOLATION_LEVEL_REPEATABLE_READ
settings.configure(DATABASES={'default': {'ENGINE': 'django.db.backends.postgresql', 'HOST': '127.0.0.1', 'PORT': port,
                                          'NAME': 'blog', 'USER': 'app', 'OPTIONS': options}})
django.setup()

from django.db import models, transaction  # noqa: E402


class Author(models.Model):
    name = models.TextField()
    bio = models.TextField()

    class Meta:
        app_label, db_table, managed = 'blog', 'authors', False


class Post(models.Model):
    title = models.TextField()
    author = models.ForeignKey(Author, models.CASCADE)

    class Meta:
        app_label, db_table, managed = 'blog', 'posts', False


def page():
    with transaction.atomic() if mode == 'repeatable-read' else contextlib.nullcontext():
        return '\n'.join(f'{post.title} by {post.author.name}' for post in Post.objects.order_by('id')[:100])


measure(page)
