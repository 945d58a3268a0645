"""The dashboard over HTTP: pages over the operations that the API has, too.

    visitors      who looks at a page, what every page is given, and errors as pages
    entrance      sign-in, and the page of an invitation
    experiments   the list, and what it loads for each
    building      making and changing one, with its plan
    result        the result of one, its parts, its notebook
    doctor        why an experiment has the data that it has
    library       metrics, events
    people        people and keys, the audit log, settings

Pages only read. What they change goes through the API, as JSON, with the defence of `http/access.py` against other sites' pages.
"""

from fastapi import FastAPI

from upshot.http.dashboard import building, doctor, entrance, experiments, library, people, result, visitors


def install(app: FastAPI) -> None:
    """Serve the pages."""
    for part in (entrance, experiments, building, result, doctor, library, people):
        part.router.join(app)
    visitors.elsewhere.join(app)
