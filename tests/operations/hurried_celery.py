"""The Celery application with every job due each second: `celery -A tests.operations.hurried_celery worker -B`."""

from upshot import settings
from upshot.celeryapp import create_app

app = create_app(settings.load())
for entry in app.conf.beat_schedule.values():
    entry["schedule"] = 1.0
    entry["options"]["expires"] = 60.0  # all of them at once wait longer than the most frequent one may
