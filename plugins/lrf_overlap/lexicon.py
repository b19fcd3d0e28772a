"""Word lists: words without content, negations, and characters that Chinese names are made of."""

from __future__ import annotations

import re
from collections.abc import Mapping


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STOP_WORDS = _words(
    """a an the this that these those it its he she they them him his her hers their theirs we us our you your i me
    my who whom whose which what where when why how is are was were be been being am do does did done doing has
    have had having will would shall should can could may might must ought and or but if then than so as of in on
    at by for with to from into onto about over under after before between through during within upon out off up
    down again also too very just only even still yet there here such some any each every all both either other
    another own same more most much many few less least one ones while because since until although though however
    therefore thus hence per via among amongst towards toward across along around behind beside besides beyond s t
    re ll ve d m let lets get gets got said says say according called named etc eg ie vs well quite rather
    anybody anyone anything everybody everyone everything somebody someone something everywhere always never often
    usually mostly sometimes rarely nearly almost several
    myself yourself himself herself itself ourselves themselves"""
)
NEGATIONS = _words(
    """not no never none nobody nothing neither nor without cannot nowhere hardly barely lack unable fail"""
)
MARKERS = _words("""to from than against before after by""")
"""Words between parties whose parts differ: who reports to whom."""
MEASURED = _words("""long high deep thick old wide tall away late early large""")
"""Words that are no opposites after a number: 3 m long."""
DENIERS = _words("""clos forbid prohibit ban exclud reject refus deny prevent avoid stop fre shut miss""")
"""Stems of verbs that deny without a negation."""
PERMITTING = _words("""allow permit""")
"""Stems of verbs of which a negation turns all that is said."""
PARTICIPLES = _words(
    """written taken given known seen shown made built bought sold found held led kept brought taught sent paid won
    lost told met run set put cut led drawn thrown grown begun chosen driven broken stolen spoken worn torn sung
    struck founded beaten bitten hit read understood"""
)
_IRREGULAR = """
    be:was were been; buy:bought; sell:sold; give:gave given; take:took taken; write:wrote written; find:found;
    lead:led; hold:held; keep:kept; bring:brought; teach:taught; send:sent; pay:paid; win:won; lose:lost;
    tell:told; meet:met; run:ran; begin:began begun; choose:chose chosen; drive:drove driven; break:broke broken;
    speak:spoke spoken; draw:drew drawn; grow:grew grown; know:knew known; see:saw seen; show:shown; rise:rose
    risen; fall:fell fallen; go:went gone; come:came; leave:left; build:built; spend:spent; lend:lent;
    think:thought; say:said; stand:stood; understand:understood; become:became; eat:ate eaten; wear:wore worn;
    fly:flew flown; man:men; woman:women; child:children; person:people; foot:feet; tooth:teeth; mouse:mice;
    datum:data; lie:lay lain; freeze:froze frozen; steal:stole stolen; sing:sang sung; sink:sank sunk; swim:swam
    swum; throw:threw thrown; feed:fed; fight:fought; catch:caught; hear:heard; shoot:shot; sleep:slept;
    strike:struck; bind:bound; forbid:forbade forbidden; hide:hid hidden; bite:bit bitten;
    denmark:danish; france:french; spain:spanish; netherlands:dutch; switzerland:swiss; greece:greek; wales:welsh;
    poland:polish; turkey:turkish; sweden:swedish; finland:finnish; england:english; scotland:scottish;
    ireland:irish; norway:norwegian; britain:british; portugal:portuguese; iceland:icelandic; germany:german"""
IRREGULAR: Mapping[str, str] = {
    form: base.strip()
    for base, _, forms in (line.partition(":") for line in _IRREGULAR.split(";"))
    for form in forms.split()
}

ZH_NEGATION = re.compile(
    "不(?![仅但过同断少管久论只光妨愧禁得]|到$|足$|超过)|不得(?!超过|少于|低于|高于|多于)|没有?(?!收|落|过)|未(?![来必])"
    "|无(?![论线人数量限]|保留|条件|偿)|并非|非(?![常洲营])|莫(?!斯|尔)|勿|禁止|严禁|拒绝"
)
ZH_DENIERS = re.compile("免|停|除了|除去|除非|除.{1,12}外|关闭|拒|禁|除外|缺|停止")
ZH_UNABLE = re.compile("不[起了着]")
"""A negation of the verb before it."""
ZH_MARKERS = re.compile("[向给比把被到由至往]")
ZH_STOP = frozenset(
    "的了是在和与及也都就而其之着过把被将对于从由为以因所这那此该们个各等地得又并且或则即若如但却还已会能可要应当须很更最再"
)
TITLES = _words("mr mrs ms miss mx dr prof professor sir dame lord lady captain judge mayor president")
"""Words before a name, in lower case."""
SURNAMES = (
    "王李张刘陈杨赵黄周吴徐孙胡朱郭何罗梁宋郑谢韩唐冯董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡"
    "孔白贾魏薛叶阎潘杜戴钟汪姜范姚谭廖邹熊陆郝崔邱秦顾侯邵孟钱汤尹黎乔贺赖龚"
)
TRANSLITERATION = "斯克德尔拉尼亚洛维娜莎卡弗普特伯瑟蒂莱茨姆妮纳诺奥罗巴比马伊埃艾迪格里萨"
MORE_SURNAMES = "林高马方石金江万段雷龙何许周黄张程孙余田任白毛史武夏于康"
ZH_TITLE_ENDS = "师长员任授者生官席导警理民友贩手匠"
ZH_ORGANISATIONS = (
    "公司|集团|科技|机械|电子|药业|制药|传媒|基金会|仲裁委员会|管理委员会|委员会|法庭|出版社|乐团|博物馆|图书馆|俱乐部|码头|车站|大学|学院|学校|中学|小学|医院|银行|工坊|工厂|研究[所院]|化验室|实验室|事务所|协会|法院|酒店|机场|兄弟|乳品厂"
    "|教授|先生|女士|医生|老师|[省县镇]|市(?!场|民|长|区|集|委|政)"
)
ZH_NOT_IN_NAMES = (
    "距离归附近旁边获已于了给去来经家所座这那该某各每个的在是有和与及或从到由"
    "被向对把其此本新老旧大小多全两几一二三四五六七八九十"
)
ZH_PLACES = "埠港郊省市县镇乡村岛河江湖山"
ZH_NOT_NAMES = (
    "何[时人种处必况一]|许[多可]|任[何务意]|余[下额]|程[序度]|周[围期末边年]|张贴|黄[色金]|夏[天季]|于是|史前|武[器装]"
    "|田[地里]|康复"
    "|曾[经任在是被有]|谢[谢绝]|叶[子片]|戴[上着]|钟[楼表声]|范[围例]|陆[地续上军]|顾[客问]|钱[归都是款财包由]"
    "|汤[里汁]|黎明|贺[卡信]|杜绝|罗列|孙[子女]|林[木业区场地]"
)

ZH_COMMON = frozenset(
    "天季一不了有人这中个我以要他时来用们到作出就分对会可发年也能下过子说产种面而后多定行所民得经之进着等部家里如"
    "加量都两体当使点从起本去把性应开它还因由其些然前外日那社事形相全表间样与各重内数反你看又么但质第向此变条只没"
    "结解问月很最想已通并提题程展果次总及设特件长求头基边少较将组见计别她手根论运再取据处队给即保超认六七八九十二"
    "三四五共收改更单打做带场例具每至达走示议声报完才价离名确际回必且交受往存候选满包住调照引该首底讲推望密批营项"
    "防举始台落围布转置排供需写字列配费够止案言均练差致降负击继似余输修送右左付检吸助互初抗考投换未跑留端站简述副"
    "尽限双让找否益依载倒突块剂略客测协念仍错除害失夜移频逐靠混短终聚哪既距停烧察境刻激搞待核侵旧损增减预阻毫获买"
    "卖扩挥守拿缺吗吧啊呢误训愿审附斤孩脱善渐械攻晚乱答乐顺缩脸异免背慢怕促静补评译伸操垂套督摸裂掉危措束耐额款绍"
    "卷沿探滑赶夺途灭归召播裁借填符努遍侧敢彻虑弹折瓦塞访透迹份退洗摆耗择忙予繁圈函抽追堆泛避惊塑遗愈替倾尚痛奋购"
    "磨捕割贯殊释顿闻揭残妇综招浮遭徐摇谷箱隔订吹纷废缓睛筒嘴插辩抵喷挂闪爆滚厘肯坡荡尾轧削障逃亩毕擦刺搜援售睡汇"
    "绕炸启陷稍忘拖洞授镜弯尊弄隶疑震怪循描膜违夹剩幸拥罢拍喊罚潜欲饱仿奖默挖扫喝污励洁灾届跃挑碰拔敬跟稀申遵允隐"
    "碍拨牵抢寻铺恐恰抬腾柔猛撤储签扰递吊喂抚忍挤偶弃仁租伴暂踏愤竞肩悬享纠醒锁淀爬赏玩坐乘拆熄关坏裹掏丢讨陪掀哭"
    "骂笑嫁娶自己什仅曾旬许几岁钟大小低好快早升同越被叫称为是在和或若则虽却者谁某另元角亿千百位支艘架幢层辆户座号"
    "章节类轮趟口颗粒片群匹放装告诉知上学书歪斜瘸跛管房警著效施延决花职聘请课师机构母父亲目火吃药饮病死活伤搬迁动"
    "屋车船票钱税值率比股利润入成工员生童老男女邻顾的式品货物料材器备院校馆店厂路楼门窗墙顶线网络系统算序档资息消"
    "记录格图画读听味觉感情心思爱恨怒喜悲愁希期盼祝贺谢歉像般普常规律令约任辞休假典礼吵闹战争险难易复杂奇优恶劣漂"
    "亮干净脏整齐空足乏破烂理造筑跌涨化代接承担责控制监验试实执业务故原影响意观谈判断拣赢败胜憾惜苦甜酸辣咸淡浓厚"
    "薄冷热温凉冻雨风电暗晴阴潮湿燥秒午昨今番阵局段截篇页册桩笔捆串伙帮"
)
"""Characters that names seldom have and other words often do: of verbs, measures, adverbs."""
_ZH_ALIKE = "与:和跟及同;自:从;须:需;乘:坐;购:买;至:到;于:在;为:是呈;该:此;仅:只;内:里;将:把;公尺:米;二:两;余:剩"
ZH_ALIKE: Mapping[str, str] = {
    other: one for one, _, others in (part.partition(":") for part in _ZH_ALIKE.split(";")) for other in others
}
"""Characters that are other ways to write one word."""
ZH_ADVERBS = frozenset("立即马曾有能够再继续必予完全法")
"""Characters that may stand between a negation and what it denies."""
