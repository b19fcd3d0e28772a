"""Units of measurement in English and Chinese: what each measures, and how many of the base unit it is."""

from __future__ import annotations

from collections.abc import Mapping

_FAMILIES: Mapping[str, Mapping[float, str]] = {
    "length": {
        1e-9: "nm 纳米",
        1e-6: "μm 微米",
        1e-3: "mm millimetre millimeter 毫米",
        1e-2: "cm centimetre centimeter 厘米 公分",
        0.1: "dm 分米",
        1: "m metre meter 米",
        500: "里 华里",
        1e3: "km kilometre kilometer 公里 千米",
        0.0254: "inch inches 英寸",
        0.3048: "ft foot feet 英尺",
        0.9144: "yd yard 码",
        1609.344: "mile mi 英里",
    },
    "mass": {
        1e-3: "mg milligram 毫克",
        1: "g gram gramme 克",
        1e3: "kg kilo kilogram 千克 公斤",
        500: "斤",
        1e6: "t ton tonne 吨",
        453.59237: "lb lbs 磅",
    },
    "time": {
        1e-3: "ms millisecond 毫秒",
        1: "s sec second 秒 秒钟",
        60: "min minute 分钟",
        3600: "h hr hrs hour 小时 个小时 钟头 个钟头",
        7200: "个时辰 时辰",
        86400: "day 天 日",
        604800: "week 周 星期 个星期 礼拜",
        1209600: "fortnight",
    },
    "calendar": {1: "month 个月", 3: "季度 个季度", 12: "year yr 年", 120: "decade", 1200: "century centuries 世纪"},
    "volume": {
        1e-3: "ml millilitre milliliter 毫升",
        1: "l litre liter 升 公升",
        1e3: "m3 m³ cubic_metre cubic_meter 立方米",
    },
    "area": {
        1: "m2 m² sqm square_metre square_meter 平方米",
        666.667: "亩",
        1e4: "ha hectare 公顷",
        4046.856: "acre 英亩",
        1e6: "km2 km² square_kilometre square_kilometer 平方公里 平方千米",
    },
    "data": {1: "bytes 字节", 1e3: "kb kilobyte", 1e6: "mb megabyte 兆字节", 1e9: "gb gigabyte", 1e12: "tb terabyte"},
    "power": {1: "w watt 瓦", 1e3: "kw kilowatt 千瓦", 1e6: "mw megawatt 兆瓦", 1e9: "gw gigawatt 吉瓦"},
    "energy": {1: "wh", 1e3: "kwh kilowatt-hour kilowatt_hour 千瓦时 度电", 1e6: "mwh 兆瓦时"},
    "voltage": {1: "v volt 伏", 1e3: "kv kilovolt 千伏"},
    "frequency": {1: "hz hertz 赫兹", 1e3: "khz 千赫", 1e6: "mhz 兆赫", 1e9: "ghz 吉赫"},
    "pressure": {1: "pa pascal 帕", 100: "hpa hectopascal 百帕", 1e3: "kpa 千帕", 1e6: "mpa megapascal 兆帕"},
    "speed": {
        1: "m/s metres_per_second meters_per_second 米每秒",
        0.277778: "km/h kph kmh kilometres_per_hour kilometers_per_hour 公里每小时",
        0.44704: "mph miles_per_hour",
    },
    "temperature": {1: "°c ℃ celsius degree 度 摄氏度"},
    "fahrenheit": {1: "°f ℉ fahrenheit 华氏度"},
    "dollar": {1: "$ us$ usd dollar 美元"},
    "euro": {1: "€ eur euro 欧元"},
    "sterling": {1: "£ gbp pound 英镑"},
    "yuan": {1: "¥ cny rmb yuan renminbi 元 人民币 块钱"},
    "yen": {1: "jpy yen 日元"},
    "share": {0.01: "% percent per_cent pct", 0.001: "‰ permille"},
}

UNITS: Mapping[str, tuple[str, float]] = {
    unit.replace("_", " "): (family, factor)
    for family, sizes in _FAMILIES.items()
    for factor, units in sizes.items()
    for unit in units.split()
}
"""Each unit, in lower case and the singular, with what it measures and its size in the family's base unit."""

SCALES: Mapping[str, float] = {
    "one": 1, "k": 1e3, "thousand": 1e3, "m": 1e6, "mn": 1e6, "million": 1e6, "bn": 1e9, "billion": 1e9,
    "trillion": 1e12, "hundred": 1e2, "dozen": 12, "百": 1e2, "千": 1e3, "万": 1e4,
    "百万": 1e6, "千万": 1e7, "亿": 1e8, "万亿": 1e12,
}  # fmt: skip
"""What multiplies a number that it follows."""
