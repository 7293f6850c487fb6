"""A Django project of one app: PGPORT and PGDATABASE say where its database is. Run as `manage.py migrate` and the like."""
import os
import sys
from pathlib import Path

from django.conf import settings

sys.path.insert(0, str(Path(__file__).parent))
settings.configure(
    SECRET_KEY='x', USE_TZ=True, DEFAULT_AUTO_FIELD='django.db.models.BigAutoField',
    INSTALLED_APPS=['django.contrib.contenttypes', 'django.contrib.auth', 'django.contrib.sessions', 'shop'],
    DATABASES={'default': {'ENGINE': 'django.db.backends.postgresql', 'HOST': '127.0.0.1', 'USER': 'app',
                           'PORT': os.environ['PGPORT'], 'NAME': os.environ['PGDATABASE'],
                           'DISABLE_SERVER_SIDE_CURSORS': True}})

if __name__ == '__main__':
    from django.core.management import execute_from_command_line
    execute_from_command_line(sys.argv)
