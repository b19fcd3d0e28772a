"""The error codes of Zhipu AI and Z.ai by their remedy. Many different ones come with status 429."""

from __future__ import annotations

from lrf.http.error_classes import ErrorCodes

_QUOTA = "the quota is used up (the message says until when): run again after that"
_KEY = "make a new key, or check that it belongs to this `base_url`"

GLM_CODES = ErrorCodes(
    # concurrency, frequency, traffic, overload
    wait=frozenset({"1302", "1303", "1305", "1312"}),
    stop=frozenset(
        {
            *("1000", "1001", "1002", "1003", "1004"),  # the key
            *("1100", "1110", "1111", "1112", "1113", "1121"),  # the account: inactive, locked, in arrears
            *("1304", "1308", "1309", "1310", "1311", "1313"),  # quota or plan
        }
    ),
    setup=frozenset({"1211", "1212", "1220", "1221", "1222"}),  # model or interface: unknown, withdrawn, not allowed
    # parameters: wrong, missing, not allowed, incompatible (which some servers say of a long document); policy, unsafe
    reject=frozenset({"1210", "1213", "1214", "1215", "1300", "1301"}),
    context=frozenset({"1261"}),
    busy=frozenset({"500", "1120", "1200", "1230", "1234"}),
    hints={
        **dict.fromkeys(("1000", "1002", "1003", "1004"), _KEY),
        "1113": "the account is in arrears: top it up, then run again",
        **dict.fromkeys(("1304", "1308", "1310"), _QUOTA),
        "1309": "the plan has ended: renew it, then run again",
        "1311": "the plan does not include this `model`",
        "1313": "the account is restricted for unfair use: see the provider's console",
        **dict.fromkeys(("1210", "1213", "1215"), "change the setting that sends it (`thinking`, `extra_body`)"),
        "1211": "check `model`",
        "1214": "check `model` and the settings sent with a request",
        "1212": "this `model` is not for chat completions",
    },
)
