"""How numbers, dates, times and measures are written, as patterns of the text from its first character on."""

from __future__ import annotations

import re

from lrf_overlap.numerals import (
    CHINESE_DIGITS,
    CHINESE_NUMERALS,
    ENGLISH,
    ENGLISH_SCALES,
    FRACTIONS,
    MULTIPLES,
    ORDINALS,
)
from lrf_overlap.units import UNITS

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)\b\.?"
)
_C, _D = rf"(?:(?!千[米克瓦伏赫帕]|百帕)[{CHINESE_NUMERALS}])", rf"[{CHINESE_DIGITS}]"
_WORD = rf"(?:{'|'.join((*ENGLISH, *ENGLISH_SCALES))})\b"
_TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_PM = r"(?:[ap]\.m\.|[AP]\.M\.|[ap]m\b|[AP]M\b)"
_ZH_MINUTES = rf"(?P<half>半)|(?P<quarter>[一三])刻|(?P<minute>\d{{1,2}}|[{CHINESE_NUMERALS}]{{1,3}})分"

DIGITS = re.compile(
    rf"""
      (?P<ymd>(?P<y>\d{{4}})(?:-(?P<m>\d\d?)-|/(?P<m_>\d\d?)/|\.(?P<m__>\d\d?)\.)(?P<d>\d\d?)(?!\d))
    | (?P<dmy>(?P<d1>\d\d?)(?P<sep>[/.])(?P<m1>\d\d?)(?P=sep)(?P<y1>\d{{4}})(?!\d))
    | (?P<day_month>(?P<d2>\d\d?)(?:st|nd|rd|th)?\ (?:of\ )?(?P<m2>{_MONTH})(?:,?\ (?P<y2>\d{{4}})\b)?)
    | (?P<zh_date>(?:(?P<zy>\d{{4}})\ ?年\ ?)?(?P<zm>\d\d?)\ ?月(?:份|\ ?(?P<zd>\d\d?)\ ?[日号]?)?)
    | (?P<zh_year>(?P<zy2>\d{{4}})\ ?年)
    | (?P<clock>(?P<h>\d\d?):(?P<min>\d\d)(?!\d)(?:\ ?(?P<pm>{_PM}))?)
    | (?P<oclock>(?P<h2>\d\d?)\ ?(?P<pm2>{_PM}|o['’]clock))
    | (?P<zh_clock>(?P<h3>\d\d?)\ ?(?:点钟?|时(?![间候期代而刻常]))(?:{_ZH_MINUTES})?)
    | (?P<one_in>(?P<x>\d{{1,9}})\ (?:in|out\ of)\ (?:every\ )?(?P<n>\d[\d,]{{0,12}})(?![-/.:]?\d)
        (?=\ [a-z]|[.;,]?$|[.,;]\ ))
    | (?P<zh_fraction>(?P<den>\d{{1,9}})分之(?P<num>\d{{1,9}}|{_C}{{1,20}}))
    | (?P<vulgar>(?P<vn>\d{{1,3}})[/⁄](?P<vd>\d{{1,3}})(?![\d/⁄]))
    | (?P<and_half>(?P<hn>\d{{1,9}})个半(?P<hu>小时|月|钟头))
    | (?P<half_more>(?P<hm>\d{{1,9}})\ and\ a\ half\b)
    | (?P<ordinal>(?P<on>\d{{1,9}})(?:st|nd|rd|th)\b|(?P<quarter_of>[1-4])季度)
    | (?P<number>(?P<dig>\d{{1,3}}(?:[,'’\ ]\d{{3}}){{1,6}}(?!\d)(?:\.\d{{1,9}})?
          |\d{{1,9}},\d\d?(?!\d)|\d{{1,20}}(?:\.\d{{1,20}})?)
        (?:[\ -]?(?P<scale>thousand|million|billion|trillion|hundred|dozen|bn|mn|[kKM](?![A-Za-z/²³])
          |百万|千万|万亿|[百千万亿])(?![A-Za-z]))?)
    """,
    re.VERBOSE,
)
WORDS = re.compile(
    rf"""
      (?P<month_day>(?P<m2>{_MONTH})\ (?:the\ )?(?P<d2>\d\d?)(?:st|nd|rd|th)?\b(?![:.]\d)(?:,?\ (?P<y2>\d{{4}})\b)?)
    | (?P<month_year>(?P<m3>{_MONTH})(?:,|\ of)?\ (?P<y3>\d{{4}})\b)
    | (?P<month>(?P<m4>{_MONTH}))
    | (?i:
      (?P<oclock>(?P<h2>{_WORD})\ (?P<pm2>{_PM}|o['’]clock))
    | (?P<clock_words>(?P<cm>half\ past|(?:a\ )?quarter\ (?:past|to)|(?:five|ten|twenty|twenty-five)\ past)
        \ (?P<ch>{_WORD}|\d\d?\b)
        (?:\ in\ the\ (?P<cp>morning|afternoon|evening)\b)?)
    | (?P<noon>noon\b|midnight\b)
    | (?P<one_in>(?P<x>{_WORD})\ (?:in|out\ of)\ (?:every\ )?(?P<n>{_WORD}(?:[\ -]{_WORD}){{0,9}}))
    | (?P<half_more>(?P<hm>{_WORD})\ and\ a\ half\b)
    | (?P<tens_ordinal>(?P<tens>{_TENS})[\ -](?P<tens_on>first|second|third|fourth|fifth|sixth|seventh|eighth|ninth)\b)
    | (?P<fraction>(?:(?P<fn>an?|{_WORD})[\ -])?(?P<fd>{"|".join(FRACTIONS)})\b
        (?:\ (?:of\ )?an?\ (?P<fu>hour|day|year|minute|century|million|dozen)\b)?)
    | (?P<and_half>(?P<hn>an?|{_WORD})\ (?P<hu>hour|day|week|month|year|century|mile)s?\ and
        \ (?:a\ half|(?P<quarters>an?|one|three)\ quarters?)\b)
    | (?P<one_unit>an?\ (?P<ou>hour|day|week|month|year)(?=\ and\ (?:\d|{_WORD})))
    | (?P<ordinal>(?P<on>{"|".join(ORDINALS)})\b)
    | (?P<multiple>(?:{"|".join(MULTIPLES)})\b)
    | (?P<words>(?:an?\ )?{_WORD}(?:(?:[\ -]|\ and\ ){_WORD}){{0,12}}))
    """,
    re.VERBOSE,
)
HAN = re.compile(
    rf"""
      (?P<zh_date>(?:(?P<zy>{_D}{{4}})年)?(?P<zm>[一二三四五六七八九十]{{1,2}})月
        (?:份|(?P<zd>[一二三四五六七八九十]{{1,3}})[日号]?)?)
    | (?P<zh_year>(?P<zy2>{_D}{{4}})年)
    | (?P<zh_clock>(?P<h3>[零一二两三四五六七八九十]{{1,3}})
        (?:点(?!{_D}+(?:[万亿]|(?![分刻十])))钟?|时(?![间候期代而刻常]))(?:{_ZH_MINUTES})?)
    | (?P<zh_share>百分之(?P<zs>\d{{1,9}}(?:\.\d{{1,9}})?|{_C}{{1,20}}(?:点{_D}{{1,20}})?))
    | (?P<zh_fraction>(?P<den>{_C}{{1,20}})分之(?P<num>{_C}{{1,20}}|\d{{1,9}}))
    | (?P<and_half>(?P<hn>{_C}{{1,20}})个半(?P<hu>小时|月|钟头))
    | (?P<zh_half>[一过]半|半(?:数|价)|半个?(?P<hu2>小时|钟头|年|天|月))
    | (?P<zh_discount>(?P<discount>[一二三四五六七八九](?:点?[一二三四五六七八九])?)
        折(?![叠断合磨腾扣成算线射中回返页椅刀]))
    | (?P<zh_tenths>(?P<tenths>[一二两三四五六七八九])成
        (?:(?P<hundredths>[一二三四五六七八九])|(?P<tenth_half>半))?(?![为了立员功本果熟分]))
    | (?P<ordinal>第\ ?(?P<on>\d{{1,9}}|{_C}{{1,20}})|(?P<quarter_of>[一二三四])季度)
    | (?P<chinese>(?P<han>{_C}{{1,20}}(?:点{_D}{{1,20}}[万亿]?)?))
    """,
    re.VERBOSE,
)

_LATIN_UNITS = "|".join(
    sorted((re.escape(u) for u in UNITS if not "\u4e00" <= u[0] <= "\u9fff"), key=len, reverse=True)
)
_HAN_UNITS = "|".join(sorted((u for u in UNITS if "\u4e00" <= u[0] <= "\u9fff"), key=len, reverse=True))
UNIT = re.compile(
    rf"(?P<about>[多余来]|\ ?左右)?(?:[\ -]?(?!has\b|as\b)(?P<latin>{_LATIN_UNITS})(?:es|s)?(?![A-Za-z])"
    rf"|\ ?(?P<zh>{_HAN_UNITS})(?![级代程面边头]))",
    re.I,
)
TENTH = re.compile(rf"[一二三四五六七八九](?![{CHINESE_NUMERALS}个名人位米分秒年月日天])")
MEASURE = re.compile(
    "[个名人位年月日天周点分秒岁次条件只台辆家所座间种类项步角块层楼页章节号班批组队张份本卷册封艘架根支棵颗粒代届期轮场口栋户"
    "元倍级度吨]"
)
BOUND = re.compile(
    r"(?:(?P<more>more than|over|at least|above|exceed(?:s|ed|ing)?|超过|多于|大于|高于|超出|逾)"
    r"|(?P<less>less than|fewer than|under|below|almost|nearly|not quite|不到|不足|少于|低于|近|将近|接近))\ ?$",
    re.I,
)
"""Words before a number that is a little lower, or higher, than what is meant."""
ABOUT = re.compile(
    r"(?:about|around|roughly|approximately|some|nearly|almost|close to|circa|over"
    r"|约|大约|约为|近|将近|接近|大概|差不多)\ ?$",
    re.I,
)
MONTH_BEFORE = re.compile(
    r"\b(?:in|of|to|from|since|until|till|and|by|between|through|during|each|every|early|late|mid)[ -]$", re.I
)
PART_OF_DAY = re.compile(r"(凌晨|早上|上午|中午|下午|晚上|夜里|夜间)\ ?$")
NOT_NUMBERS = frozenset({"千万", "万一", "一一", "千百", "万千", "万", "千", "百", "十", "零", "一", "百万"})
_FULL_MONTHS = "january february march april june july august september october november december"
NUMBER_WORDS = frozenset(
    {*ENGLISH, *ENGLISH_SCALES, *ORDINALS, *MULTIPLES, *FRACTIONS, "noon", "midnight", *MONTHS, "sept"}
).union(_FULL_MONTHS.split())
"""Words without one of which a text has no quantity in words."""
STARTS = NUMBER_WORDS | {"a", "an"}
TRIGGER = re.compile(rf"\d|[A-Za-z]+|[{CHINESE_NUMERALS}半第]|过半")
NO_WORD_TRIGGER = re.compile(rf"\d|[{CHINESE_NUMERALS}半第]|过半")


def quantity_at(text: str, at: int) -> re.Match[str] | None:
    """The quantity that starts at this place, by digits, English words or Chinese numerals."""
    first = text[at]
    if first.isascii() and first.isalpha():
        return WORDS.match(text, at)
    return DIGITS.match(text, at) if first.isdigit() else HAN.match(text, at)


def unit_at(text: str, at: int) -> re.Match[str] | None:
    """The unit that follows a number which ends at this place."""
    return UNIT.match(text, at)
