"""The figures that the process keeps of itself, in one table; Prometheus reads them at `/metrics`.

upshot_requests_total{status}    requests answered, by status
upshot_requests_under_way        requests being answered
upshot_events_total{verdict}     events received: accepted, duplicates, rejected
upshot_delivered_total{verdict}  what a worker made of the queue: events accepted and duplicates, messages buried
"""

from prometheus_client import Counter, Gauge

REQUESTS = Counter("upshot_requests", "Requests answered, by status.", ["status"])
UNDER_WAY = Gauge("upshot_requests_under_way", "Requests being answered.")
EVENTS = Counter("upshot_events", "Events received, by what became of them.", ["verdict"])
DELIVERED = Counter("upshot_delivered", "Events stored from the queue, and messages buried.", ["verdict"])
