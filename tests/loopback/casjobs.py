"""CasJobs on the loopback: jobs that queue, run, finish, fail or never end.

Its SQL runs on the same database as the loopback's SkyServer, where MyDB's tables lie as well.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

from loopback.server import Answer, LoopbackServer, Request
from loopback.skyserver import Database, csv

API = "/CasJobs/RestApi"
TOKEN = "0123456789abcdef0123456789abcdef"


@dataclass
class Job:
    """One job and the states it goes through, one for each time that it is looked at."""

    number: int
    query: str
    task: str
    states: list[int]
    message: str = ""


@dataclass
class CasJobs:
    """CasJobs' answers; `becomes` sets the states that the next jobs go through."""

    releases: dict[int, Database]
    becomes: Sequence[int] = (0, 1, 5)  # queued, running, finished; the last state stays
    message: str = ""
    typed_header: bool = True
    jobs: dict[int, Job] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    server: LoopbackServer = field(init=False)

    def serve(self, server: LoopbackServer) -> None:
        """Answer at the interface's addresses."""
        self.server = server
        server.route(rf"{API}/contexts/DR\d+/jobs$", self.submit)
        server.route(rf"{API}/contexts/\w+/query$", self.query)
        server.route(rf"{API}/jobs/\d*$", self.look)

    def _refused(self, request: Request) -> Answer | None:
        if request.headers.get("x-auth-token") != TOKEN:
            text = f"Unauthorized: {request.headers.get('x-auth-token')}"
            return Answer(json.dumps({"Error Message": text}).encode(), 401, "application/json")
        return None

    def _database(self, request: Request) -> Database:
        found = re.search(r"/contexts/DR(\d+)/", request.path)
        return self.releases[int(found[1])] if found else next(iter(self.releases.values()))

    def submit(self, request: Request) -> Answer:
        """Take a job."""
        refused = self._refused(request)
        if refused or request.method != "PUT":
            return refused or Answer(b"", 405)
        asked = json.loads(request.body)
        number = 7000 + len(self.jobs)
        job = Job(number, asked["Query"], asked["TaskName"], list(self.becomes), self.message)
        self.jobs[number] = job
        if job.states[-1] == 5:
            try:
                self._database(request).run(job.query)
            except sqlite3.Error as error:
                job.states, job.message = [0, 4], str(error)
        return Answer(str(number).encode(), kind="text/plain")

    def look(self, request: Request) -> Answer:
        """Say how a job is, or how all are."""
        refused = self._refused(request)
        number = request.path.rpartition("/")[2]
        if refused or (number and int(number) not in self.jobs):
            return refused or Answer(b'{"Error Message": "no such job"}', 404, "application/json")
        if number:
            found: object = self._described(self.jobs[int(number)])
        else:
            found = [self._described(job) for job in self.jobs.values()]
        return Answer(json.dumps(found).encode(), kind="application/json")

    def _described(self, job: Job) -> dict[str, object]:
        state = job.states.pop(0) if len(job.states) > 1 else job.states[0]
        return {"JobID": job.number, "Status": state, "Message": job.message, "Query": job.query}

    def query(self, request: Request) -> Answer:
        """Run a short query at once."""
        refused = self._refused(request)
        if refused:
            return refused
        sql = json.loads(request.body)["Query"]
        try:
            names, rows = self._database(request).run(sql)
        except sqlite3.Error as error:
            text = str(error).replace("no such table", "Invalid object name")
            body = json.dumps({"Error Code": 500, "Error Message": text})
            return Answer(body.encode(), 500, "application/json")
        if sql.startswith("DROP"):
            self.dropped.append(sql.split()[-1])
        if self.typed_header:
            names = [f"[{name}]:String" for name in names]
        return Answer(csv(names, rows, first_line=""), kind="text/plain")
