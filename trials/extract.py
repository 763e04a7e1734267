import sys; sys.path.insert(0,'/tmp/w/measures')
import torch, numpy as np, time, os
from dataclasses import dataclass, replace
from pathlib import Path
from functools import partial
torch.set_num_threads(int(os.environ.get('T','1')))
from stem_core.encoders.efficientnet import EfficientNetLite0
from stem_core.encoders.preparation import AsRead
from stem_core.encoders.embedding import embed_places
from stem_core.encoders.condition import survey_slide, spot_embeddings
from stem_core.encoders.compact import load_compact_encoder
from stem_core.model.config import ConditionConfig
from stem_core.training.hest import open_section, read_section, section_spots
from stem_core.slides.tissue import find_tissue
net=EfficientNetLite0().eval()
net.load_state_dict({k:v.half().float() for k,v in torch.load('/tmp/lite0/folded.pt').items()})
net=net.to(memory_format=torch.channels_last)
class Lite:
    name='lite0'; width=1568; sha256='x'; arithmetic='fp32 cpu'; preparation=AsRead()
    @torch.inference_mode()
    def encode(self,p,batch=16):
        out=[np.zeros((0,1568),np.float32)]
        for s in range(0,len(p),batch):
            x=((torch.from_numpy(p[s:s+batch]).float()-127)/128).to(memory_format=torch.channels_last)
            out.append(net(x).numpy())
        return np.concatenate(out)
    def encode_prepared(self,p): return self.encode(p)
    def to(self,d): pass
class Rand(Lite): pass
class Comp:
    def __init__(s): s.e=load_compact_encoder(Path('/tmp/w/measures/zoo/encoders/compact-he.safetensors'))
    def __getattr__(s,n): return getattr(s.e,n)
D=Path('/work/shared/data')
jobs=[]
for spec in sys.argv[1:]:
    which,enc,side,px=spec.split(':'); jobs.append((which,enc,float(side),int(px)))
for which,enc,side,px in jobs:
    folder,names,pitch,diam=((D/'her2st',['B4','C2','C3','C4','C5'],154.0,100.0) if which=='h' else (D/'mouse_olfactory_bulb',['MOB1','MOB2','MOB3'],110.0,55.0))
    e=Lite() if enc=='lite' else Comp()
    for n in names:
        out=f'/tmp/x/{n}-{enc}-{side:.0f}-{px}.npz'
        if os.path.exists(out): continue
        t=time.time()
        sec=read_section(folder,n)
        with open_section(sec) as slide:
            c=ConditionConfig(side_um=side,size_px=px,survey_pitch_um=pitch,context_um=(150.0,300.0) if which=='h' else (100.0,200.0),patch_mode='physical')
            spots=section_spots(sec,slide,diam); tissue=find_tissue(slide)
            own=spot_embeddings(slide,spots,e,c)
            sv=survey_slide(slide,tissue,e,c)
            mpp=slide.require_mpp()
            np.savez(out,own=own,x=spots.x_px*mpp,y=spots.y_px*mpp,sx=sv.x_um,sy=sv.y_um,se=sv.embeddings,tissue=sv.tissue,mask_um=sv.mask_um)
        print(spec,n,own.shape,sv.embeddings.shape,'mpp',mpp,round(time.time()-t,1),flush=True)
