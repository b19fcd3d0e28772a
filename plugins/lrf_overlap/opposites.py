"""Words that are opposites, and verbs that the parties of one event do, in groups of words that mean about the same."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set

from lrf_overlap.lexicon import IRREGULAR

Signs = tuple[tuple[int, int], ...]
"""For each pair of groups that a word is in the pair's number and the side, 1 or −1."""

_ENGLISH = """
    increase rise raise grow growth climb gain jump surge soar swell boost expand escalate double triple upturn/
        decrease fall drop shrink decline reduce reduction lower cut slump plunge sink dwindle halve slash dip
        plummet tumble diminish slide downturn trim;
    choose chosen chose select pick prefer/reject; reach attain meet achieve fulfil fulfill/miss;
    approve accept authorise authorize grant adopt endorse ratify/
        reject refuse deny veto decline dismiss;
    permit allow let/forbid prohibit ban block bar disallow; agree consent/refuse decline;
    welcome praise applaud hail commend celebrate support back endorse favour favor defend/
        criticise criticize condemn oppose denounce complain protest object attack resist deplore;
    agree confirm support corroborate/contradict disagree conflict refute disprove;
    open reopen/close shut closure; begin start launch commence inaugurate introduce establish/
        end stop finish complete cease terminate discontinue abolish scrap conclude expire;
    keep retain maintain preserve save/lose abandon discard drop scrap remove abolish replace;
    remain stay/leave depart quit; arrive enter join/leave depart exit quit withdraw;
    hire recruit appoint employ engage/dismiss fire sack resign retire; elect/defeat oust; promote/demote relegate;
    succeed success successful/fail failure unsuccessful; pass/fail; win victory/lose loss defeat;
    early earlier earliest ahead/late later latest behind; first/last final; former previous/
        current present next; former/latter; prior preceding/subsequent following; more/less fewer; most/least fewest;
    majority/minority; above over exceed/below under beneath; beyond/within; maximum/minimum; upper/lower;
    high higher highest/low lower lowest; large larger largest big bigger biggest great greater greatest/
        small smaller smallest little tiny; wide wider widest broad/narrow narrower narrowest;
    tall taller tallest long longer longest/short shorter shortest brief; deep deeper deepest/shallow;
    fast faster fastest quick quicker quickest rapid swift/slow slower slowest gradual;
    strong stronger strongest/weak weaker weakest; hard harder hardest difficult tough complicated complex/
        easy easier easiest simple; heavy heavier heaviest/light lighter lightest; hard/soft;
    rich wealthy/poor; cheap cheaper cheapest inexpensive affordable/expensive costly; hot hotter hottest warm warmer/
        cold colder coldest cool cooler; dry/wet damp humid; clean/dirty polluted; bright/dark dim; full/empty vacant;
    safe secure harmless/dangerous unsafe risky hazardous harmful; healthy/sick ill; alive living/dead;
    good/bad poor; better/worse; best/worst; improve improvement enhance/worsen deteriorate deterioration;
    positive/negative; true right correct accurate/false wrong incorrect inaccurate; same identical equal/different;
    common frequent frequently often widespread usual/rare rarely seldom uncommon unusual infrequent scarce;
    permanent lasting indefinitely/temporary temporarily provisional interim; public/private;
    voluntary optional/compulsory mandatory required obligatory forced; free/paid; domestic internal/
        foreign external international overseas; urban/rural; north northern/south southern; east eastern/west western;
    northeast northeastern/southwest southwestern; northwest northwestern/southeast southeastern; left/right;
    inside indoor indoors/outside outdoor outdoors; front/rear back; top/bottom; upstream/downstream; uphill/downhill;
    ascend ascent/descend descent; daytime/night nighttime overnight; morning/evening afternoon; weekday/weekend;
    summer/winter; spring/autumn; sunrise dawn/sunset dusk; add attach insert/remove delete omit detach;
    include contain/exclude omit; enable activate/disable deactivate; lock/unlock; encrypt/decrypt;
    install/uninstall; connect/disconnect; accelerate hasten/decelerate slow; advance/delay postpone defer;
    strengthen reinforce/weaken undermine; widen broaden/narrow; extend lengthen prolong/shorten curtail;
    tighten/loosen relax; visible/invisible hidden; known/unknown; attend/miss; likely probable/unlikely;
    possible/impossible; certain/uncertain doubtful; sufficient enough adequate ample/insufficient inadequate;
    legal lawful/illegal unlawful; guilty/innocent; convict/acquit; uphold affirm/overturn overrule quash reverse;
    plaintiff claimant/defendant; appellant/respondent; unanimous unanimously/divided split narrowly;
    profit surplus/loss deficit; asset/liability; creditor/debtor; lender/borrower; employer/employee; landlord/tenant;
    buyer customer/seller vendor; doctor/patient; host/guest; home/away; attack/defend; ally/enemy opponent;
    optimistic confident hopeful/pessimistic; popular/unpopular; happy pleased satisfied/
        unhappy disappointed dissatisfied; smooth/rough; gentle flat/steep; horizontal/vertical;
    clockwise/anticlockwise counterclockwise; odd/even; partial partially partly/total totally complete completely;
    major main primary/minor secondary; senior/junior; ancient/modern; new newer newest young younger youngest/
        old older oldest elder eldest; native indigenous/invasive alien; natural/artificial synthetic;
    manual manually/automatic automatically; liquid/solid; sweet/bitter sour; active/inactive dormant passive;
    fixed/variable adjustable flexible; stable steady constant unchanged/unstable volatile fluctuate changed;
    reveal disclose publish/conceal hide withhold; remember/forget; love like enjoy/hate dislike detest; peace/war;
    build construct erect/demolish destroy dismantle; create/destroy; repair restore/damage; protect/endanger threaten;
    encourage promote/discourage deter inhibit; cause/prevent; absorb/emit; freeze solidify/melt thaw; heat/chill;
    inflate/deflate; fill/drain; lead/trail follow; predecessor ancestor/successor descendant; question/answer;
    spend/earn save; born birth/died die death; die kill/survive; marry/divorce; exempt/liable; cover/exclude;
    valid/invalid expired void; entitled eligible qualified/ineligible disqualified; wholesale/retail; gross/net;
    loud noisy/quiet silent; thick thicker thickest/thin thinner thinnest; dense crowded/sparse deserted;
    sunny clear/cloudy overcast; exact exactly/approximate; abundant plentiful/scarce; husband/wife;
    man male/woman female; boy/girl; father/mother; son/daughter; brother/sister; uncle/aunt; nephew/niece;
    grandfather/grandmother; king/queen; appear/disappear; near nearest close/far distant farthest;
    minor/serious severe; inner/outer; internal/external; refund/charge; waive/impose; maternal/paternal;
    renew extend/cancel; proceed/cancel; sign/cancel"""
_CONVERSES = (
    "buy purchase acquire/sell; borrow/lend; import/export; teach/learn; teacher/student pupil; give/receive; win/lose"
)
PHRASES: Mapping[tuple[str, str], str] = {
    ("turn", "down"): "reject", ("com", "down"): "fall", ("go", "down"): "fall", ("go", "up"): "rise",
    ("shut", "down"): "close", ("call", "off"): "cancel", ("put", "off"): "postpone", ("giv", "up"): "abandon",
    ("laid", "off"): "dismiss", ("tor", "down"): "demolish", ("torn", "down"): "demolish",
    ("slow", "down"): "slow", ("tak", "off"): "ascend",
}  # fmt: skip
"""Verbs, as stems, whose particle makes them another word."""
PRIVATIVE = re.compile(
    "(?:un(?!der|i[tfov]|t|cl)|non-?"
    "|dis(?=agree|allow|appear|approv|connect|continu|like|prov|qualif|satisf|similar|honest|advantag)"
    "|in(?=accura|activ|adequa|appropr|complete|consist|correct|depend|direct|effect|effic|elig|expens|experienc|formal"
    "|frequ|secur|signific|stabil|suffic|toler|valid|visib)"
    "|im(?=balanc|matur|moral|partial|patien|perfect|polite|possib|probab|proper|pur)"
    "|ir(?=regular|relevant|respons|revers)|il(?=legal|legib|literat|logic))(?P<rest>.{4,40})"
)
"""A word that is another one's opposite by its beginning."""
_CHINESE = """
    增加 上升 提高 增长 上涨 升高 攀升 提升 上调 增大 增多 翻番 回升 走高 增至 升至 涨至/
        减少 下降 降低 下跌 回落 缩减 下滑 下调 减小 削减 减半 走低 减至 降至 跌至;
    批准 通过 同意 准许 允许 许可 核准 接受 采纳 赞成/否决 驳回 拒绝 反对 婉拒 谢绝;
    可以 能够 允许 准许 不禁止/禁止 严禁 避免 不得 不准 不许 不可 不可以 不能 不能够 无法 不允许 切勿;
    打开 开启 启用 开放 开业 开张 开馆 投产 开通 运行 运营 营业/关闭 停用 停业 歇业 闭馆 停产 停运; 开工 动工/竣工 完工;
    成立 创立 设立 组建/解散 撤销; 保留/取消 废除 删除 拆除; 恢复/中断 暂停; 继续/停止 中止; 开始/结束 停止;
    上任 就任 任命 出任 接任 聘任/卸任 辞职 离任 免去 退休 罢免 免职 辞去; 晋升 升任/降职; 录用 聘用/解雇 辞退;
    提前/推迟 延后 延期 推后 延误; 早于 先于/晚于 迟于; 大于 高于 超过 多于 以上/小于 低于 不足 少于 以下;
    最大 最多/最小 最少; 最高/最低; 最早/最晚 最迟; 最长/最短; 最快/最慢; 最重/最轻; 最深/最浅; 最远/最近;
    最初 首次/最后 最终 末次; 成功/失败; 支持 赞成/反对; 相同 一致/不同; 室内/室外; 公开/保密 隐瞒 秘密;
    免费 免票/收费 买票 付费; 增强 强于/减弱 弱于; 加快/减慢; 左侧 左边 左岸/右侧 右边 右岸; 东/西; 南/北; 夏/冬; 春/秋;
    男/女; 盈利/亏损; 赢/输; 必须 应当 应该 需要/不必 无需 不用; 自愿/强制; 安全/危险; 永久 长期/临时 短期; 父/母;
    丈夫/妻子; 兄弟/姐妹; 长子/次子 幼子; 长女/次女 幼女; 儿子/女儿; 祖父/祖母; 上级/下级; 国内/国外 海外;
    之前 以前/之后 以后; 以内/以外; 内部/外部; 白天/夜间 夜里 晚上; 有效/无效; 合法/非法; 主要/次要; 扩大/缩小;
    领先/落后; 延长/缩短; 盈余 顺差/赤字 逆差; 上午 早晨 清晨/下午 傍晚 晚上; 公立 公办/私立 民办; 国有/民营 私营;
    裁减 裁员/扩招; 涨价/降价; 增产/减产; 升级/降级; 乐观/悲观; 充足 充分/短缺 匮乏 缺乏; 丰富/贫乏 缺乏;
    城市/农村 乡村; 年轻/年老 年迈; 富裕/贫困; 简单 容易/困难 复杂; 常见/罕见; 多数/少数; 上游/下游; 上半年/下半年;
    上半场/下半场; 前者/后者; 前期/后期; 早期/晚期; 起点/终点 末端; 加强/削弱; 扩张/收缩; 顺时针/逆时针; 买方/卖方;
    出租/承租; 原告/被告; 债权/债务; 债权人/债务人; 甲方/乙方; 进攻/防守; 胜利 获胜/失败 战败 落败;
    击败 战胜/不敌 负于 输给; 晋级/淘汰; 主场/客场; 加速/减速; 收紧/放松 放宽; 宽松/严格; 熟悉/陌生; 肯定/否定;
    承认/否认; 表扬 称赞 赞扬 好评/批评 指责 差评; 满意/不满 失望; 欢迎/抗议 抱怨 抵制; 证实/推翻; 存入/取出;
    出生/去世 逝世; 健在 在世/去世 逝世 病逝; 结婚/离婚; 入学/毕业; 建造 修建/拆除; 修复/破坏; 安装/拆卸 卸载;
    清晰/模糊; 稳定/波动; 完好/损坏; 节约/浪费; 奖励/处罚 惩罚; 有利/不利; 有益/有害; 好转 改善/恶化; 优于/劣于 逊于;
    升温/降温; 高温/低温; 干燥/潮湿 湿润; 增持/减持; 买入/卖出; 收入/支出; 资产/负债; 全职 专职/兼职; 内销/外销;
    信任/怀疑; 喜欢 喜爱/讨厌 厌恶; 主动/被动; 自动/手动 人工; 天然 自然/人造 人工; 地上/地下; 沿海/内陆;
    工作日/周末 节假日; 旺季/淡季; 雨季/旱季; 涨潮/退潮 落潮; 急性/慢性; 良性/恶性; 阳性/阴性; 饭前/饭后;
    餐前 空腹/餐后; 术前/术后; 固定/浮动; 入口/出口; 进入/离开; 到达 抵达/出发 离开; 入住/退房; 起飞/降落; 正常/异常;
    成年/未成年; 已婚/未婚; 便宜 低廉/昂贵; 密集/稀疏; 加剧 加重/缓解 减轻; 促进/抑制 阻碍; 鼓励/限制; 赢得 获得/失去"""
_CHINESE_CONVERSES = "买 收购/卖 出售; 借入/借出; 进口/出口; 得到/转让"
_CHARACTERS = """多/少;大/小;高 升/低 降;长/短;快/慢;早/晚 迟;上/下;内/外;增 涨/减 跌;买 购/卖 售;收/付;左/右;东/西;
    南/北;甲/乙;男/女;新/旧;开/关 闭;入 进/出;首/末;父/母;春/秋;夏/冬;先/后;赢 胜/输 败;生/死;远/近;轻/重;厚/薄;
    宽/窄;深/浅;热/冷;硬/软;优/劣;强/弱;加/减;前/后;昼 白/夜;兄/弟;姐/妹;夫/妻;公/私;盈/亏;松/紧;正/负;粗/细;升/降;
    老/幼"""


def _signs(pairs: str) -> dict[str, Signs]:
    """Each word with the pairs that it is in, and the side."""
    signs: dict[str, Signs] = {}
    for number, pair in enumerate(pairs.split(";")):
        for side, words in zip((1, -1), pair.split("/"), strict=True):
            for word in words.split():
                signs[word] = (*signs.get(word, ()), (number, side))
    return signs


def _forms(word: str) -> set[str]:
    """A word with its endings of English grammar, some of which no text has."""
    base = word.removesuffix("e")
    last = word[-1] if len(word) < 7 and word[-1] in "bdglmnprt" and word[-2] in "aeiou" else ""
    ies = {word[:-1] + "ies", word[:-1] + "ied"} if word[-1] == "y" else set()
    plain = {word, word + "s", word + "es", word + "ing", base + "ed", base + "ing", base + last + "ed"}
    return plain | ies | {base + last + "ing"} | {form for form, of in IRREGULAR.items() if of == word}


_NOUNS = frozenset({"end", "cost", "costs", "back", "present", "clear", "major", "minor", "lead"})
"""Forms that mostly are no opposites."""


def _with_forms(signs: Mapping[str, Signs]) -> dict[str, Signs]:
    """The words of English in all their forms; one that is a word of its own is that."""
    forms = {form: of for word, of in signs.items() for form in _forms(word)} | dict(signs)
    return {form: of for form, of in forms.items() if form not in _NOUNS}


OPPOSITES, ZH_OPPOSITES, ZH_SIDES = _with_forms(_signs(_ENGLISH)), _signs(_CHINESE), _signs(_CHARACTERS)
"""Words that are opposites; the last are single characters that are where one stands in the place of the other."""
CONVERSES, ZH_CONVERSES = _signs(_CONVERSES), _signs(_CHINESE_CONVERSES)
"""Verbs of one event that its parties do from their sides: who sells to whom has them buy from him."""


def opposed(signs: Iterable[tuple[int, int]], others: Set[tuple[int, int]]) -> bool:
    """Whether a word with these signs is an opposite of words with the others, and means the same as none of them."""
    signs = tuple(signs)
    return any((pair, -side) in others for pair, side in signs) and others.isdisjoint(signs)
