"use strict";
// The words of the page in English and Chinese: t("reward") is the word in the language that is shown.
const WORDS = {
  overview: ["Overview", "概览"], samples: ["Samples", "样本"], training: ["Training", "训练"], comparison: ["Comparison", "比较"],
  language: ["中文", "English"], theme: ["Theme", "主题"], skip: ["Skip to the content", "跳到正文"],
  loading: ["Loading …", "加载中…"], alarms: ["Alarms", "警报"], no_alarm: ["No alarm was raised.", "没有警报。"],
  what_ran: ["What ran", "运行内容"], status: ["Status", "状态"], seconds: ["Seconds", "秒数"], version: ["Versions", "版本"],
  judges: ["Judges", "评审模型"], settings: ["All settings", "全部设置"], in_out: ["In and out", "输入与输出"],
  stage: ["Stage", "阶段"], figure: ["Figure", "数据"], value: ["Value", "值"], as_table: ["As a table", "以表格显示"],
  unscored: ["unscored", "未评分"], unscored_why: ["Unscored, by reason", "未评分的原因"], reason: ["Reason", "原因"],
  help: ["What helps", "解决办法"], candidates: ["Candidates", "候选回答"], candidate: ["Candidate", "候选回答"],
  dimension: ["Dimension", "维度"], rating: ["Rating", "评分"], reward: ["Reward", "奖励"], mean: ["Mean", "平均"],
  distributions: ["Ratings by dimension", "各维度的评分分布"], correlations: ["Do dimensions say the same?", "各维度是否一致？"],
  correlation: ["Spearman's rank correlation", "斯皮尔曼等级相关"], length: ["length", "长度"],
  by_length: ["Reward and length of the answer", "奖励与回答长度"], characters: ["characters", "字符"],
  ties: ["Ties and margins", "并列与差距"], margin: ["Highest less lowest reward of a sample", "样本内最高与最低奖励之差"],
  left_out: ["Samples without a pair", "没有偏好对的样本"], cost: ["Calls and tokens", "调用与令牌"], replies: ["Replies", "回复"],
  again: ["Asked again", "重问"], prompt: ["Prompt tokens", "提示令牌"], cached: ["of them cached", "其中缓存"],
  written: ["Written tokens", "生成令牌"], cut_off: ["Cut off", "被截断"], money: ["Money", "费用"], no_price: ["no price for", "没有价格："],
  over_time: ["Calls over time", "调用随时间的变化"], in_flight: ["calls in flight", "进行中的调用"],
  latency: ["seconds for a reply", "每次回复的秒数"], faults: ["Calls without a usable reply", "没有可用回复的调用"],
  calls: ["Calls", "调用"], filter: ["Filter by id or question", "按编号或问题筛选"], sort: ["Sort by", "排序"],
  in_order: ["the data's order", "数据顺序"], by_margin: ["largest margin", "差距最大"], by_lowest: ["lowest reward", "奖励最低"],
  by_unscored: ["most unscored", "未评分最多"], highest: ["Highest", "最高"], lowest: ["Lowest", "最低"], question: ["Question", "问题"],
  none_match: ["No sample matches.", "没有匹配的样本。"], shown: ["shown", "显示"], more: ["Show more", "显示更多"],
  previous: ["Previous sample", "上一个样本"], next: ["Next sample", "下一个样本"], rank: ["Rank", "名次"], show: ["Show", "显示"],
  document: ["Document", "文档"], no_text: ["The text is not in this report.", "此报告不含文本。"], reference: ["Reference answer", "参考答案"],
  statements: ["Statements", "陈述"], analysis: ["Analysis", "分析"], notes: ["Notes on the document", "文档笔记"],
  evidence: ["Evidence", "证据"], go_evidence: ["Show the evidence in the document", "在文档中显示证据"],
  quoted: ["quoted", "已引用"], not_quoted: ["retrieved, not quoted", "检索到但未引用"], closest: ["closest sentence", "最接近的句子"],
  not_found: ["quoted, but nowhere in the document", "引用了，但文档中没有"], no_evidence: ["No evidence was retrieved.", "没有检索到证据。"],
  back: ["Back to the statement", "回到陈述"], votes: ["Votes", "投票"], spread: ["spread", "离散度"], first: ["First verdict", "最初的判定"],
  not_retrieved: ["found at the second look only", "第二次查看才找到"], seen: ["What each part saw", "每个部分看到了什么"],
  saw_evidence: ["of the document was given as evidence", "的文档作为证据"], saw_notes: ["of its chunks have a note", "的分块有笔记"],
  saw: ["seen", "已看到"], all_of_it: ["Show all", "显示全部"], less: ["Show less", "收起"], nothing_relevant: ["nothing relevant", "无相关内容"],
  step: ["Step", "步"], against: ["Compared with", "对比"], changed: ["Changed settings", "更改的设置"], same_settings: ["The settings are the same.", "设置相同。"],
  mean_change: ["Mean change", "平均变化"], mean_absolute: ["Mean absolute change", "平均绝对变化"], moved: ["Samples that moved most", "变化最大的样本"],
  before: ["before", "之前"], now: ["now", "现在"], same_best: ["Same best candidate", "最佳候选相同"], rank_correlation: ["Mean rank correlation within samples", "样本内平均等级相关"],
  pairs: ["Pairs", "偏好对"], same_pairs: ["the same", "相同"], turned: ["turned round", "颠倒"], home: ["To the overview", "回到概览"],
  keys: ["Keys: n and p go to the next and the previous sample, / to the filter, Escape back to the statement.", "按键：n 下一个样本，p 上一个样本，/ 筛选，Esc 回到陈述。"],
  equal_pairs: ["Pairs of candidates with equal rewards", "奖励相等的候选对"], tied_best: ["Samples whose best reward is shared", "最高奖励并列的样本"],
  fully: ["supported", "有依据"], partly: ["partly supported", "部分有依据"], unsupported: ["not supported", "无依据"],
  legend: ["In the document: all evidence of the answers shown is underlined, that of the chosen statement is marked.", "文档中：所示回答的全部证据加下划线，所选陈述的证据突出显示。"],
};
let language = (navigator.language || "en").toLowerCase().startsWith("zh") ? 1 : 0;

function t(key) {
  return WORDS[key][language];
}
