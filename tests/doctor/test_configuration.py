"""What the configuration alone tells, as findings."""

from datetime import date
from pathlib import Path
from string import Formatter

from bridge.advice.base import Turn
from bridge.advice.diagnosis import Diagnosis
from bridge.config.in_force import REFUSED, RESTART
from bridge.config.load import parse_config
from bridge.control.contract import Outcome
from bridge.doctor.configuration import configuration_findings, running_findings

CONFIG = """
providers: {it: {kind: google, client_id: c, client_secret: CANARY, client_secret_expires: 2027-01-31}}
accounts: [{address: alice@example.com, provider: it}]
"""


def test_a_finding_has_the_arguments_of_its_sentence_and_no_others() -> None:
    loaded = parse_config(CONFIG, directory=Path(__file__).parent, environ={})
    soon, over = date(2027, 1, 21), date(2027, 2, 1)
    found = [
        *configuration_findings(loaded, soon),
        *configuration_findings(loaded, over),
        *running_findings([Diagnosis.of(REFUSED, problem="p"), Diagnosis.of(RESTART, settings="workers")]),
    ]
    assert {finding.outcome for finding in found} == {Outcome.OK, Outcome.WARNING, Outcome.FAILED}
    for finding in found:
        places = {name for _, name, _, _ in Formatter().parse(finding.sentence) if name}
        assert {name for name, _ in finding.arguments} == places, finding.detail
        assert finding.turn is (Turn.NOBODY if finding.outcome is Outcome.OK else Turn.APP_ADMIN)
