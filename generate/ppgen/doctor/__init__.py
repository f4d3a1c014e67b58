"""What this machine lacks: `ppgen doctor` looks at software, hardware and places, and says what will not work and why."""

from ppgen.doctor.finding import Finding, State
from ppgen.doctor.report import as_json, as_text, examine

__all__ = ["Finding", "State", "as_json", "as_text", "examine"]
