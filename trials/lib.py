import sys; sys.path.insert(0,'/tmp/w/measures')
import numpy as np, torch, json, os
from pathlib import Path
torch.set_num_threads(1)
from stem_core.encoders.condition import SlideSurvey, _assemble, condition_groups
from stem_core.model.config import ConditionConfig
from stem_core.training.hest import read_section, log_counts
from stem_core.training.panel import choose_panel
from stem_core.evaluation.composition import composition, noise_ceiling, total_everywhere
from stem_core.evaluation.metrics import pearson_by_gene, relative_variance_difference
D=Path('/work/shared/data')
H=dict(folder=D/'her2st',names=['B4','C2','C3','C4','C5'],folds=['C3','C5','B4'],ctx=(150.,300.))
M=dict(folder=D/'mouse_olfactory_bulb',names=['MOB1','MOB2','MOB3'],folds=['MOB1','MOB2','MOB3'],ctx=(100.,200.))
_sec={}
def section(ds,n):
    if n not in _sec: _sec[n]=read_section(ds['folder'],n)
    return _sec[n]
_panel={}
def panel(ds,train):
    k=tuple(train)
    if k not in _panel: _panel[k]=choose_panel({n:section(ds,n).counts for n in train},200,rule='hmhvg')
    return _panel[k]
def cond(ds,n,enc,side,px,std=None):
    z=np.load(f'/tmp/x/{n}-{enc}-{side}-{px}.npz')
    se,own=z['se'],z['own']
    sv=SlideSurvey(z['sx'],z['sy'],se,z['tissue'].astype(bool),float(z['mask_um']))
    spec=ConditionConfig(side_um=float(side),size_px=px,survey_pitch_um=100.,context_um=ds['ctx'],patch_mode='physical')
    spots=_assemble(own,z['x'],z['y'],sv,spec)
    lat=_assemble(se,z['sx'].astype(float),z['sy'].astype(float),sv,spec)
    W=se.shape[1]; g=condition_groups(spec,W)
    A=lambda c:(np.concatenate([c[:,g['raw']],c[:,g['geometry']]],1),np.concatenate([c[:,g['relative']],c[:,g['geometry']]],1))
    return dict(s=A(spots),l=A(lat),full=(spots,lat),groups=g,xy=np.stack([z['x'],z['y']],1))
class Scale:
    def __init__(s,x): s.m=x.mean(0); s.d=x.std(0)+1e-6
    def __call__(s,x): return np.clip((x-s.m)/s.d,-5,5)
def ridge(x,y,alpha):
    """dual"""
    sc=Scale(x); z=sc(x).astype(np.float64); c=z.mean(0); z=z-c; l=y.mean(0)
    K=z@z.T; a=np.linalg.solve(K+alpha*np.eye(len(K)),(y-l)); w=z.T@a
    return lambda q:(sc(q)-c)@w+l
def kern(x,y,alpha,gamma):
    sc=Scale(x); z=sc(x).astype(np.float64); g=gamma/z.shape[1]; l=y.mean(0)
    d=lambda a,b:np.exp(-g*np.maximum((a*a).sum(1)[:,None]+(b*b).sum(1)-2*a@b.T,0))
    a=np.linalg.solve(d(z,z)+alpha*np.eye(len(z)),y-l)
    return lambda q:d(sc(q).astype(np.float64),z)@a+l
def figs(p,m):
    r=pearson_by_gene(p,m); return np.nanmean(r)
def cfigs(c,m):
    r=pearson_by_gene(c,m); s=np.sort(r[np.isfinite(r)])[::-1]; return s.mean(), s[:50].mean()
def mse(p,m): return float(((p-m)**2).mean())
def pairs(p):
    c=np.corrcoef(p.T); return float(np.nanmedian(c[np.triu_indices(len(c),1)]))
def depth_match(e,c,it=25):
    """total so that mean over genes of log2(1+T s) equals mean over genes of e"""
    s=np.maximum(np.exp2(c)-1,0); s=s/s.sum(1,keepdims=True)
    want=np.maximum(e,0).mean(1); t=np.full(len(e),8.0)
    lo,hi=np.zeros(len(e)),np.full(len(e),20.)
    for _ in range(40):
        mid=(lo+hi)/2; v=np.log2(1+np.exp2(mid)[:,None]*s).mean(1); up=v<want
        lo=np.where(up,mid,lo); hi=np.where(up,hi,mid)
    return np.log2(1+np.exp2(mid)[:,None]*s), mid
_cond=cond
def cond(ds,n,enc,side,px):
    """enc: name[/cols][/ctx] e.g. lite/544, lite/544/c1 (own and first context only)"""
    parts=enc.split('/'); c=_cond(ds,n,parts[0],side,px)
    if len(parts)>1:
        W=1568 if parts[0]=='lite' else 141; k=int(parts[1])
        blocks=[0,1,2] if len(parts)<3 else [int(i) for i in parts[2]]
        ix=np.concatenate([np.arange(b*W,b*W+k) for b in blocks]+[np.arange(3*W,3*W+5)])
        c['s']=tuple(a[:,ix] for a in c['s']); c['l']=tuple(a[:,ix] for a in c['l'])
    return c
